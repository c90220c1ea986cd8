"""The configs of segmentation build, read data and can be optimised."""

import ast
import copy
import re
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg.models')

import mmcv  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import DATASETS, MODELS  # noqa: E402

from .harness import (  # noqa: E402
    build_model,
    build_on_meta,
    build_optimizer,
    build_schedulers,
    cases,
    leaves,
    length,
    load,
    number_of_parameters,
    train_a_step,
    with_demo,
)

SCOPE = 'mmseg'
LEAVES = leaves(SCOPE)
DEMOS = with_demo(LEAVES)
# As they are, each net once.
LIGHT = [n for n in LEAVES if n not in DEMOS and '-without-' not in n]
VOC = 'eanet/eanet_r50-d8_4xb4-45k_voc12aug-513x513.py'
NWPU = 'nwpu/fpn_r18-w32_1xb8_nwpu-256x256.py'
EAMLP = 'eamlp/fpn_eamlp-7_4xb4-160k_ade20k-512x512.py'
CAAM_T2T = 'caam/caam-t2t-vit-7_fpn_4xb4-160k_ade20k-512x512.py'
EA_NWPU = 'nwpu/ea_fpn_r18-w32_1xb8_nwpu-256x256.py'
MOBILENET = 'mobilenet_v2/fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py'
EA_MOBILENET = MOBILENET.replace('/', '/ea_')
EA_HEAD = 'mobilenet_v2/ea-head_mobilenet-v2-d8_4xb4-160k_ade20k-512x512.py'
CCP = 'ccp/ea_fpn_mobilenet-v2_1xb4_ccp-320x240.py'

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
# Where the data set's class does not tell; by its folder.
LABELS_OF = {'data/ccp': [0, 1, 6, 11]}


def write_data(dataset_cfg, root, size):
    """Write one image with its label in the layout the data set reads."""
    kind, prefix = dataset_cfg.type, dataset_cfg.data_prefix
    img_suffix, seg_suffix = SUFFIXES.get(kind, ('.jpg', '.png'))
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    # Blocks of labels, so that every crop holds several.
    labels = LABELS_OF.get(dataset_cfg.data_root, LABELS[kind])
    ids = rng.choice(labels, (size[0] // 8 + 1, size[1] // 8 + 1))
    seg = ids.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]].astype(np.uint8)
    mmcv.imwrite(img, str(root / prefix.img_path / f'a{img_suffix}'))
    mmcv.imwrite(seg, str(root / prefix.seg_map_path / f'a{seg_suffix}'))
    if dataset_cfg.get('ann_file'):
        ann_file = root / dataset_cfg.ann_file
        ann_file.parent.mkdir(parents=True, exist_ok=True)
        ann_file.write_text('a\n')


def read(dataset_cfg, times=1, size=(331, 467)):
    """The classes, and the samples of a data set on written data.

    Many configs share a data set: it is read once.
    """
    return copy.deepcopy(_read(repr(dataset_cfg.to_dict()), times, size))


@lru_cache(None)
def _read(text, times, size):
    dataset_cfg = ConfigDict(ast.literal_eval(text))
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as root:
        for part in dataset_cfg.get('datasets', [dataset_cfg]):
            write_data(part, Path(root), size)
            part.data_root = root
            if 'indices' in part:  # which of the real images
                part.indices = None
        dataset = DATASETS.build(dataset_cfg)
        samples = [dataset[i] for i in [*range(len(dataset))] * times]
    return dataset.metainfo['classes'], samples


class TestFiles:
    """What their texts say."""

    def test_leaves_are_found(self):
        assert {'ea_fpn_ade20k.py', 'ea_fpn_cityscapes.py'} <= set(LEAVES)
        assert {VOC, NWPU, EA_NWPU, EAMLP, CAAM_T2T} <= set(LEAVES)
        assert {MOBILENET, EA_MOBILENET, EA_HEAD, CCP} <= set(LEAVES)

    @pytest.mark.parametrize('name', LEAVES)
    def test_label_ids_are_checked(self, name):
        hooks = [h['type'] for h in load(name).custom_hooks]
        assert hooks == ['mmea.SegLabelCheckHook']

    @pytest.mark.parametrize('name', LEAVES)
    def test_weights_come_from_an_address(self, name):
        backbone = load(name).model.backbone
        init_cfg = backbone.get('init_cfg')
        if (
            name.startswith(('nwpu/', 'eamlp/', 'halonet/', 'elsa_swin/'))
            or name.startswith('volo/')
            or name == CAAM_T2T
            or 'voc12aug' in name
        ):
            assert init_cfg is None
        else:
            assert init_cfg.checkpoint.startswith('https://')
            mobile = backbone.type == 'MobileNetV2'
            net = 'mobilenet_v2-' if mobile else f'resnet{backbone.depth}'
            assert f'/{net}' in init_cfg.checkpoint
            assert init_cfg.type == ('mmea.' * mobile) + 'Pretrained'

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

    @cases(LEAVES, DEMOS)
    def test_heads_agree(self, args):
        name, model = args[0], load(*args).model
        heads = [model.decode_head]
        if model.get('auxiliary_head'):
            heads.append(model.auxiliary_head)
        assert len(heads) == (
            2
            if ('/eanet_' in name and 'voc12aug' not in name)
            or 'upernet' in name
            or name == EA_HEAD
            else 1
        )
        assert len({head.num_classes for head in heads}) == 1
        assert {head.align_corners for head in heads} == {
            '769x769' in name or 'voc12aug' in name
        }

    @cases(LEAVES, DEMOS)
    def test_slide_test(self, args):
        test_cfg = load(*args).model.test_cfg.to_dict()
        if '769x769' in args[0] and '--demo' not in args:
            assert test_cfg == dict(
                mode='slide', crop_size=(769, 769), stride=(513, 513)
            )
        else:
            assert test_cfg == dict(mode='whole')

    @pytest.mark.parametrize(
        ('plain', 'ea'), [(NWPU, EA_NWPU), (MOBILENET, EA_MOBILENET)]
    )
    def test_pair_differs_in_the_head_only(self, plain, ea):
        seed = dict(seed=0) if plain == NWPU else None
        plain, ea = load(plain), load(ea)
        assert ea.get('randomness') == seed
        assert ea.model.decode_head.pop('attention')
        assert ea.model.decode_head.pop('type') == 'mmea.EAFPNHead'
        assert plain.model.decode_head.pop('type') == 'FPNHead'
        ea.work_dir = plain.work_dir
        ea.demo_model = plain.get('demo_model')
        assert ea.to_dict() == {'demo_model': None, **plain.to_dict()}

    @pytest.mark.parametrize('name', DEMOS)
    def test_demo_is_light(self, name):
        cfg = load(name, '--demo')
        assert 'SyncBN' not in cfg.pretty_text
        assert cfg.train_cfg.max_iters <= 1000
        assert cfg.train_dataloader.num_workers == 2
        assert cfg.train_dataloader.persistent_workers


def logits(model, name, image):
    """At the size that the head of a config works on."""
    out = model(image, mode='tensor')
    height, width = image.shape[2:]
    at_8 = '/eanet_' in name or '/volo' in name or name == EA_HEAD
    stride = 8 if at_8 else 4
    size = tuple(-(-n // stride) for n in (height, width))
    if name in (EAMLP, CAAM_T2T):  # a multiple of the map of stride 16
        size = tuple(4 * -(-n // 16) for n in (height, width))
    assert out.shape == (1, model.num_classes, *size)
    return out


class TestModels:
    @pytest.mark.parametrize('name', DEMOS)
    def test_full_size(self, name):
        cfg = load(name)
        model = build_on_meta(cfg).eval()
        build_optimizer(model, cfg)
        with torch.no_grad():
            logits(model, name, torch.randn(1, 3, 65, 97, device='meta'))

    @cases(LIGHT, DEMOS)
    def test_predicts_and_trains_a_step(self, args):
        cfg = load(*args)
        model = build_model(cfg)
        assert number_of_parameters(model) < 5e6
        assert all(p.requires_grad for p in model.parameters())
        model.eval()
        with torch.no_grad():
            out = logits(model, args[0], torch.randn(1, 3, 65, 97))
        assert out.isfinite().all()
        _, samples = read(cfg.train_dataloader.dataset, 2)
        data = {key: [s[key] for s in samples] for key in samples[0]}
        train_a_step(model, cfg, data)

    def test_last_layer_of_short_trainings_starts_large(self):
        cfg = load(CCP)
        cfg.model.backbone.init_cfg = None
        torch.manual_seed(0)
        head = MODELS.build(cfg.model).decode_head
        head.init_weights()
        std = head.conv_seg.weight.std().item()
        assert std == pytest.approx((2 / (64 + 12)) ** 0.5, rel=0.05)
        assert not head.conv_seg.bias.any()

    @pytest.mark.parametrize('depth', [50, 101])
    def test_voc_backbone_is_the_published_one(self, depth):
        name = VOC.replace('r50', f'r{depth}')
        backbone = build_on_meta(load(name)).backbone
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


class TestData:
    @cases(LEAVES, DEMOS)
    def test_train_pipeline(self, args):
        cfg = load(*args)
        classes, samples = read(cfg.train_dataloader.dataset, 2)
        two = 'voc12aug' in args[0] and '--demo' not in args
        assert len(samples) == 2 * (1 + two)
        num_classes = cfg.model.decode_head.num_classes
        assert len(classes) == num_classes
        preprocess = MODELS.build(cfg.model.data_preprocessor)
        height, width = cfg.model.data_preprocessor.size
        seen = set()
        for item in samples:
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
        ignored = cfg.model.decode_head.get('ignore_index', 255)
        assert seen <= {*range(num_classes), ignored}
        assert num_classes - 1 in seen  # the last id of LABELS

    @pytest.mark.parametrize(
        ('name', 'size'),
        [
            ('ea_fpn_cityscapes.py', (1024, 2048)),
            (NWPU, (1024, 2048)),
            (CCP, (412, 275)),
        ],
    )
    def test_crop_is_full_where_the_image_is_larger(self, name, size):
        # A pipeline that gave less would be hidden by the padding.
        cfg = load(name)
        dataset = cfg.train_dataloader.dataset
        _, samples = read(dataset, 8, size)
        sizes = {tuple(sample['inputs'].shape[1:]) for sample in samples}
        assert tuple(cfg.crop_size) in sizes

    @cases(LEAVES, DEMOS)
    @pytest.mark.parametrize('split', ['val', 'test'])
    def test_test_pipeline(self, split, args):
        cfg = load(*args)
        _, (item,) = read(cfg[f'{split}_dataloader'].dataset)
        sample = item['data_samples']
        # The metric compares at the label's own size.
        assert sample.ori_shape == (331, 467)
        assert sample.gt_sem_seg.data.shape == (1, 331, 467)
        assert sample.gt_sem_seg.data.dtype == torch.int64

    @pytest.mark.parametrize(
        'name', [n for n in LEAVES if not n.startswith(('camvid/', 'ccp/'))]
    )
    def test_tta_pipeline(self, name):
        cfg = load(name)
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        _, (item,) = read(cfg.test_dataloader.dataset)
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

    def test_voc_scales(self):
        cfg = load(VOC)
        pipeline = cfg.train_dataloader.dataset.datasets[0].pipeline
        choice = next(t for t in pipeline if t['type'] == 'RandomChoice')
        factors = [t[0]['scale_factor'] for t in choice['transforms']]
        assert factors == [n / 10 for n in range(5, 21)]


class TestSchedules:
    @cases(LEAVES, DEMOS)
    def test_schedulers(self, args):
        cfg = load(*args)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        schedulers = build_schedulers(cfg, optimizer)
        assert all(not s.by_epoch for s in schedulers)
        ends = [s.end for s in schedulers]
        assert ends[-1] == length(cfg)
        begins = [s.begin for s in schedulers]
        assert begins == [0, *ends[:-1]]
        assert length(cfg) % cfg.default_hooks.checkpoint.interval == 0

    def test_voc_parameter_groups(self):
        cfg = load(VOC)
        model = build_on_meta(cfg)
        optim_wrapper = build_optimizer(model, cfg)
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
        optim_wrapper = build_optimizer(model, cfg)
        scheduler = build_schedulers(cfg, optim_wrapper)[0]
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
