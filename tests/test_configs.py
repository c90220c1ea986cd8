"""Every shipped config loads, builds, reads data and can be optimised.

Here: all files, and those of segmentation; test_det_configs.py has detection,
test_cls_configs.py classification.
"""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')

import mmcv  # noqa: E402
import yaml  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import (  # noqa: E402
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    DefaultScope,
)

from mmea.engine.launch import make_parser, read_config  # noqa: E402

ROOT = Path(__file__).resolve().parents[1] / 'configs'
FILES = sorted(
    p for p in ROOT.rglob('*') if p.suffix in ('.py', '.yml', '.md')
)
ALL = sorted(
    p.relative_to(ROOT).as_posix()
    for p in ROOT.rglob('*.py')
    if '_base_' not in p.relative_to(ROOT).parts
)
FAMILIES = [
    'caam',
    'cascade_rcnn',
    'classification',
    'eamlp',
    'eanet',
    'elsa_swin',
    'faster_rcnn',
    'halonet',
    'mask_rcnn',
    'nwpu',
    'retinanet',
    'stand_alone',
]
# What their leaves with an option `attention` start with.
SYSTEMS = {
    'ea_': 'ExternalAttention2d',
    'ea-neck': 'ExternalAttention2d',
    'eanet_': 'ExternalAttention2d',
    'nl_': 'NonLocal2d',
    'stand-alone_': 'StandAloneAttention2d',
}
VOC = 'eanet/eanet_r50-d8_4xb4-45k_voc12aug-513x513.py'
NWPU = 'nwpu/fpn_r18-w32_1xb8_nwpu-256x256.py'
EAMLP = 'eamlp/fpn_eamlp-7_4xb4-160k_ade20k-512x512.py'
CAAM_T2T = 'caam/caam-t2t-vit-7_fpn_4xb4-160k_ade20k-512x512.py'
EA_NWPU = 'nwpu/ea_fpn_r18-w32_1xb8_nwpu-256x256.py'

# What each data set calls its files, and which ids its label files hold.
SUFFIXES = {
    'CityscapesDataset': ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
}
LABELS = {
    'ADE20KDataset': [0, 1, 77, 150],
    'CityscapesDataset': [0, 7, 18, 255],
    'PascalVOCDataset': [0, 1, 20, 255],
    'BaseSegDataset': [0, 1, 5, 10],
}


@lru_cache(None)
def _text_of(name):
    return Config.fromfile(ROOT / name).pretty_text


def load(name):
    return Config.fromfile(ROOT / name)


def load_demo(name):
    """The config as ``tools/train.py NAME --demo`` trains it."""
    return read_config(make_parser('').parse_args([name, '--demo']))


def attentions(node):
    """Every value of a key ``attention`` in a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'attention':
                yield value
            else:
                yield from attentions(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from attentions(value)


def _is_seg(name):
    try:
        return load(name).get('default_scope') == 'mmseg'
    except Exception:
        return True  # let the tests report it


LEAVES = [name for name in ALL if _is_seg(name)]
DEMOS = [name for name in LEAVES if 'demo_data' in load(name)]
# (config, with the demo's changes): what the builds run over.
CASES = [pytest.param(load, name, id=name) for name in LEAVES] + [
    pytest.param(load_demo, name, id=f'{name}--demo') for name in DEMOS
]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build_model(cfg):
    if cfg.model.backbone.type == 'mmea.CaaMT2TViT':
        pytest.importorskip('mmpretrain.models')
    return MODELS.build(cfg.model)


def write_data(dataset_cfg, root, size):
    """Write one image with its label in the layout the data set reads."""
    kind, prefix = dataset_cfg.type, dataset_cfg.data_prefix
    img_suffix, seg_suffix = SUFFIXES.get(kind, ('.jpg', '.png'))
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    # Blocks of labels, so that every crop holds several.
    ids = rng.choice(LABELS[kind], (size[0] // 8 + 1, size[1] // 8 + 1))
    seg = ids.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]].astype(np.uint8)
    mmcv.imwrite(img, str(root / prefix.img_path / f'a{img_suffix}'))
    mmcv.imwrite(seg, str(root / prefix.seg_map_path / f'a{seg_suffix}'))
    if dataset_cfg.get('ann_file'):
        ann_file = root / dataset_cfg.ann_file
        ann_file.parent.mkdir(parents=True, exist_ok=True)
        ann_file.write_text('a\n')


def build_dataset(dataset_cfg, root, size=(331, 467)):
    """Build a loader's data set on written data."""
    for part in dataset_cfg.get('datasets', [dataset_cfg]):
        write_data(part, root, size)
        part.data_root = str(root)
    return DATASETS.build(dataset_cfg)


class TestFiles:
    """What holds for the text of all config files."""

    def test_families_are_found(self):
        assert {'ea_fpn_ade20k.py', 'ea_fpn_cityscapes.py'} <= set(LEAVES)
        assert {VOC, NWPU, EA_NWPU, EAMLP} <= set(LEAVES)
        assert {*FAMILIES, ''} == {n.rpartition('/')[0] for n in ALL}
        nwpu = {name for name in LEAVES if name.startswith('nwpu/')}
        assert set(DEMOS) == set(LEAVES) - nwpu

    @pytest.mark.parametrize(
        'path', FILES, ids=lambda p: p.relative_to(ROOT).as_posix()
    )
    def test_no_dead_host_and_no_foreign_base(self, path):
        text = path.read_text(encoding='utf-8')
        for bad in (
            'open-mmlab://',
            'openmmlab://',
            'download.openmmlab.com',
            'mmseg::',
            'mmdet::',
            'mmpretrain::',
            'torchvision://',
        ):
            assert bad not in text, bad

    @pytest.mark.parametrize('name', ALL)
    def test_bases_are_ours(self, name):
        text = (ROOT / name).read_text(encoding='utf-8')
        bases = re.search(r'^_base_ = (\[.*?\]|\S+)', text, re.S | re.M)
        paths = re.findall(r"'([^']+)'", bases.group(1))
        assert paths
        for path in paths:
            base = ((ROOT / name).parent / path).resolve()
            assert base.is_relative_to(ROOT / '_base_'), path

    @pytest.mark.parametrize('name', ALL)
    def test_loads(self, name):
        assert '_delete_' not in _text_of(name)

    @pytest.mark.parametrize('name', ALL)
    def test_attention_takes_any_system(self, name):
        found = list(attentions(load(name).model.to_dict()))
        leaf = name.rpartition('/')[2]
        assert len(found) == leaf.startswith(tuple(SYSTEMS))
        kind = next((k for s, k in SYSTEMS.items() if leaf.startswith(s)), '')
        for attention in found:
            assert attention['type'] == f'mmea.{kind}'
            assert set(attention) <= {
                'type',
                'norm_cfg',
                'act_cfg',
                'zero_init',
                'with_cp',
            }

    @pytest.mark.parametrize('name', LEAVES)
    def test_label_ids_are_checked(self, name):
        hooks = [h['type'] for h in load(name).custom_hooks]
        assert hooks == ['mmea.SegLabelCheckHook']

    @pytest.mark.parametrize('name', LEAVES)
    def test_weights_come_from_an_address(self, name):
        init_cfg = load(name).model.backbone.get('init_cfg')
        if (
            name.startswith(('nwpu/', 'eamlp/', 'halonet/', 'elsa_swin/'))
            or name == CAAM_T2T
            or 'voc12aug' in name
        ):
            assert init_cfg is None
        else:
            depth = load(name).model.backbone.depth
            assert init_cfg.checkpoint.startswith('https://')
            assert f'/resnet{depth}' in init_cfg.checkpoint

    @pytest.mark.parametrize('family', FAMILIES)
    def test_metafile_and_readme_name_every_config(self, family):
        meta = yaml.safe_load((ROOT / family / 'metafile.yml').read_text())
        readme = (ROOT / family / 'README.md').read_text(encoding='utf-8')
        leaves = [n for n in ALL if n.startswith(f'{family}/')]
        assert sorted(m['Config'] for m in meta['Models']) == [
            f'configs/{n}' for n in leaves
        ]
        rows = {
            row.split('](')[1].split(')')[0]: row
            for row in readme.splitlines()
            if row.startswith('| [')
        }
        for model in meta['Models']:
            assert model['Name'] == Path(model['Config']).stem
            # Nothing here has been trained.
            assert 'Results' not in model and 'Weights' not in model
            row = rows[f'{model["Name"]}.py']
            assert all(cell.strip() for cell in row.split('|')[1:-1])
            if 'Reported' in model:
                for value in model['Reported']['Metrics'].values():
                    assert f'| {value}* |' in row
                assert model['Reported']['Dataset'] in row
                assert model['Reported']['Verified'] is False
            else:
                assert '*' not in row

    @pytest.mark.parametrize('name', [n for n in LEAVES if '/eanet_' in n])
    def test_batch_and_crop_are_those_of_the_name(self, name):
        cfg = load(name)
        batch, kilo, h, w = re.search(
            r'4xb(\d)-(\d+)k_.*-(\d+)x(\d+)\.py', name
        ).groups()
        assert cfg.train_dataloader.batch_size == int(batch)
        assert cfg.train_cfg.max_iters == int(kilo) * 1000
        assert tuple(cfg.model.data_preprocessor.size) == (int(h), int(w))
        assert tuple(cfg.crop_size) == (int(h), int(w))


class TestModels:
    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_builds_and_predicts(self, loader, name):
        cfg = loader(name)
        model = build_model(cfg).eval()
        with torch.no_grad():
            logits = model(torch.randn(1, 3, 65, 97), mode='tensor')
        stride = 8 if '/eanet_' in name else 4
        size = tuple(-(-n // stride) for n in (65, 97))
        if name in (EAMLP, CAAM_T2T):  # a multiple of the map of stride 16
            size = tuple(4 * -(-n // 16) for n in (65, 97))
        assert logits.shape == (1, model.num_classes, *size)
        assert logits.isfinite().all()

    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_heads_agree(self, loader, name):
        cfg = loader(name)
        heads = [cfg.model.decode_head]
        if cfg.model.get('auxiliary_head'):
            heads.append(cfg.model.auxiliary_head)
        assert len(heads) == (
            2
            if ('/eanet_' in name and 'voc12aug' not in name)
            or 'upernet' in name
            else 1
        )
        assert len({head.num_classes for head in heads}) == 1
        assert {head.align_corners for head in heads} == {
            '769x769' in name or 'voc12aug' in name
        }

    def test_slide_test(self):
        for name in LEAVES:
            test_cfg = load(name).model.test_cfg.to_dict()
            if '769x769' in name:
                assert test_cfg == dict(
                    mode='slide', crop_size=(769, 769), stride=(513, 513)
                )
            else:
                assert test_cfg == dict(mode='whole')

    @pytest.mark.parametrize('depth', [50, 101])
    def test_voc_backbone_is_the_published_one(self, depth):
        backbone = build_model(load(VOC.replace('r50', f'r{depth}'))).backbone
        stem = [m for m in backbone.stem if isinstance(m, torch.nn.Conv2d)]
        assert [m.out_channels for m in stem] == [64, 64, 128]
        assert [m.stride[0] for m in stem] == [2, 1, 1]
        for layer, dilations in (
            (backbone.layer3, [1] + [2] * (len(backbone.layer3) - 1)),
            (backbone.layer4, [2, 8, 16]),
        ):
            assert [b.conv2.dilation[0] for b in layer] == dilations
            assert {b.conv2.stride[0] for b in layer} == {1}
        assert len(backbone.layer3) == {50: 6, 101: 23}[depth]

    def test_nwpu_pair_differs_in_the_head_only(self):
        plain, ea = load(NWPU), load(EA_NWPU)
        assert ea.randomness == dict(seed=0)
        assert ea.model.decode_head.pop('attention')
        assert ea.model.decode_head.pop('type') == 'mmea.EAFPNHead'
        assert plain.model.decode_head.pop('type') == 'FPNHead'
        assert ea.to_dict() == plain.to_dict()


class TestData:
    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_train_pipeline(self, loader, name, tmp_path):
        cfg = loader(name)
        np.random.seed(0)
        dataset = build_dataset(cfg.train_dataloader.dataset, tmp_path)
        voc = 'voc12aug' in name and loader is load
        assert len(dataset) == (2 if voc else 1)
        num_classes = cfg.model.decode_head.num_classes
        assert len(dataset.metainfo['classes']) == num_classes
        preprocess = MODELS.build(cfg.model.data_preprocessor)
        height, width = cfg.model.data_preprocessor.size
        seen = set()
        for i in [*range(len(dataset))] * 2:
            item = dataset[i]
            image = item['inputs']
            assert image.dtype == torch.uint8
            assert image.shape[1] <= height and image.shape[2] <= width
            label = item['data_samples'].gt_sem_seg.data
            assert label.shape[1:] == image.shape[1:]
            batch = preprocess(
                dict(inputs=[image], data_samples=[item['data_samples']]),
                training=True,
            )
            label = batch['data_samples'][0].gt_sem_seg.data
            assert batch['inputs'].shape == (1, 3, height, width)
            assert label.shape == (1, height, width)
            assert label.dtype == torch.int64
            seen |= set(label.unique().tolist())
        assert seen <= {*range(num_classes), 255}
        assert num_classes - 1 in seen  # the last id of LABELS

    def test_crop_is_full_where_the_image_is_larger(self, tmp_path):
        # A pipeline that gave less would be hidden by the padding.
        for name in ('ea_fpn_cityscapes.py', NWPU):
            cfg = load(name)
            dataset = build_dataset(
                cfg.train_dataloader.dataset, tmp_path / name, (1024, 2048)
            )
            sizes = [dataset[0]['inputs'].shape[1:] for _ in range(8)]
            assert tuple(cfg.crop_size) in {tuple(s) for s in sizes}

    @pytest.mark.parametrize(('loader', 'name'), CASES)
    @pytest.mark.parametrize('split', ['val', 'test'])
    def test_test_pipeline(self, split, loader, name, tmp_path):
        cfg = loader(name)
        dataset = build_dataset(cfg[f'{split}_dataloader'].dataset, tmp_path)
        sample = dataset[0]['data_samples']
        # The metric compares at the label's own size.
        assert sample.ori_shape == (331, 467)
        assert sample.gt_sem_seg.data.shape == (1, 331, 467)
        assert sample.gt_sem_seg.data.dtype == torch.int64

    @pytest.mark.parametrize('name', LEAVES)
    def test_tta_pipeline(self, name, tmp_path):
        cfg = load(name)
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        item = build_dataset(cfg.test_dataloader.dataset, tmp_path)[0]
        sizes = [image.shape[1:] for image in item['inputs']]
        assert len(sizes) == 6 * 2
        assert {s[0] for s in sizes} == {
            int(331 * r + 0.5) for r in (0.5, 0.75, 1, 1.25, 1.5, 1.75)
        }
        labels = [s.gt_sem_seg.data for s in item['data_samples']]
        assert all((label == labels[0]).all() for label in labels)
        assert labels[0].shape == (1, 331, 467)
        assert labels[0].max() in (255, cfg.model.decode_head.num_classes - 1)
        assert cfg.tta_model.type == 'SegTTAModel'

    def test_voc_scales(self, tmp_path):
        cfg = load(VOC)
        pipeline = cfg.train_dataloader.dataset.datasets[0].pipeline
        choice = next(t for t in pipeline if t['type'] == 'RandomChoice')
        factors = [t[0]['scale_factor'] for t in choice['transforms']]
        assert factors == [n / 10 for n in range(5, 21)]


class TestSchedules:
    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_optimiser_and_schedulers(self, loader, name):
        cfg = loader(name)
        model = build_model(cfg)
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        groups = optim_wrapper.optimizer.param_groups
        held = [id(p) for g in groups for p in g['params']]
        assert sorted(held) == sorted(id(p) for p in model.parameters())
        schedulers = [
            PARAM_SCHEDULERS.build(
                s, default_args=dict(optimizer=optim_wrapper)
            )
            for s in cfg.param_scheduler
        ]
        assert all(not s.by_epoch for s in schedulers)
        ends = [s.end for s in schedulers]
        assert ends[-1] == cfg.train_cfg.max_iters
        begins = [s.begin for s in schedulers]
        assert begins == [0, *ends[:-1]]
        every = cfg.default_hooks.checkpoint.interval
        assert cfg.train_cfg.max_iters % every == 0

    def test_voc_parameter_groups(self):
        cfg = load(VOC)
        model = build_model(cfg)
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        rates = {
            id(p): (g['lr'], g['weight_decay'], g['momentum'])
            for g in optim_wrapper.optimizer.param_groups
            for p in g['params']
        }
        norm = torch.nn.modules.batchnorm._BatchNorm
        seen = {'bias of norm': 0, 'bias': 0, 'norm': 0, 'decayed': 0}
        for module in model.modules():
            for name, param in module.named_parameters(recurse=False):
                if name == 'bias':
                    kind, want = 'bias', (2 * 9e-3, 0, 0.9)
                    if isinstance(module, norm):
                        kind = 'bias of norm'
                elif isinstance(module, norm):
                    kind, want = 'norm', (9e-3, 0, 0.9)
                else:
                    kind, want = 'decayed', (9e-3, 1e-4, 0.9)
                assert rates[id(param)] == pytest.approx(want), name
                seen[kind] += 1
        # conv1 of the attention block, and the classifier.
        assert seen['bias'] == 2
        assert seen['bias of norm'] == seen['norm'] > 50
        memories = [
            p
            for n, p in model.decode_head.attention.named_parameters()
            if 'memory' in n
        ]
        assert memories
        for memory in memories:
            assert rates[id(memory)] == pytest.approx((9e-3, 1e-4, 0.9))

    def test_voc_biases_stay_at_the_double_rate(self):
        cfg = load(VOC)
        model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        scheduler = PARAM_SCHEDULERS.build(
            cfg.param_scheduler[0], default_args=dict(optimizer=optim_wrapper)
        )
        for _ in range(1000):
            scheduler.step()
        weight, bias = (g['lr'] for g in optim_wrapper.optimizer.param_groups)
        assert weight == pytest.approx(9e-3 * (1 - 1 / 45) ** 0.9)
        assert bias == pytest.approx(2 * weight)

    def test_voc_loss_counts_ignored_pixels(self):
        loss = MODELS.build(load(VOC).model.decode_head.loss_decode)
        logits = torch.randn(1, 21, 4, 4)
        label = torch.randint(0, 21, (1, 4, 4))
        label[:, :2] = 255
        want = torch.nn.functional.cross_entropy(
            logits, label, ignore_index=255, reduction='sum'
        )
        got = loss(logits, label, ignore_index=255)
        torch.testing.assert_close(got, want / 16)


class TestDemo:
    @pytest.mark.parametrize('name', DEMOS)
    def test_trains_a_step_and_reaches_every_parameter(self, name, tmp_path):
        cfg = load_demo(name)
        torch.manual_seed(0)
        model = build_model(cfg)
        dataset = build_dataset(cfg.train_dataloader.dataset, tmp_path)
        data = [dataset[0] for _ in range(2)]
        batch = model.data_preprocessor(
            {
                key: [d[key] for d in data]
                for key in ('inputs', 'data_samples')
            },
            training=True,
        )
        losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        assert loss.isfinite()
        loss.backward()
        # DDP hangs on a parameter without a gradient.
        assert [n for n, p in model.named_parameters() if p.grad is None] == []

    @pytest.mark.parametrize('name', DEMOS)
    def test_is_light_short_and_needs_no_network(self, name):
        cfg = load_demo(name)
        text = cfg.pretty_text
        assert '_delete_' not in text
        assert 'http' not in text
        assert 'SyncBN' not in text
        assert cfg.train_cfg.max_iters <= 1000
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_iters
        assert cfg.model.test_cfg.to_dict() == dict(mode='whole')
        params = sum(p.numel() for p in build_model(cfg).parameters())
        assert params < 5e6
        assert cfg.train_dataloader.num_workers == 2
        assert cfg.train_dataloader.persistent_workers

    @pytest.mark.parametrize('name', DEMOS)
    def test_keeps_the_classes_and_the_net(self, name):
        real, demo = load(name), load_demo(name)
        for head in ('decode_head', 'auxiliary_head'):
            a, b = real.model.get(head), demo.model.get(head)
            assert (a is None) == (b is None)
            if a is not None:
                assert (a.type, a.num_classes) == (b.type, b.num_classes)
        assert demo.model.backbone.type == real.model.backbone.type
        real_data = real.val_dataloader.dataset
        assert demo.val_dataloader.dataset.type == real_data.type
        assert demo.val_dataloader.dataset.data_prefix == real_data.data_prefix
        roots = {
            loader.dataset.data_root
            for loader in (
                demo.train_dataloader,
                demo.val_dataloader,
                demo.test_dataloader,
            )
        }
        assert roots == {f'data/demo/{demo.demo_scenes.layout}'}
        assert set(demo.demo_scenes) == {
            'layout',
            'num_train',
            'num_val',
            'size',
            'seed',
        }

    @pytest.mark.parametrize('name', DEMOS)
    def test_hooks_and_metric(self, name):
        cfg = load_demo(name)
        types = [h['type'] for h in cfg.custom_hooks]
        assert types == ['mmea.SegLabelCheckHook', 'mmea.SegPictureHook']
        for hook in cfg.custom_hooks:
            HOOKS.build(hook)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.type == 'mmea.PresentIoUMetric'
            METRICS.build(evaluator)
