"""Every detection config builds, reads data and takes a training step."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

mmdet = pytest.importorskip('mmdet')
datasets = pytest.importorskip('mmdet.datasets')

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import (  # noqa: E402
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    PARAM_SCHEDULERS,
    DefaultScope,
)

import mmea  # noqa: E402
from mmea.engine.launch import make_parser, read_config  # noqa: E402

LEAVES = [
    name
    for name in mmea.configs()
    if Config.fromfile(mmea.config(name)).default_scope == 'mmdet'
]
COCO = [name for name in LEAVES if name.endswith('_coco.py')]
DETECTORS = {
    'faster_rcnn': ['faster-rcnn'],
    'mask_rcnn': ['mask-rcnn'],
    'retinanet': ['retinanet'],
    'cascade_rcnn': ['cascade-rcnn', 'cascade-mask-rcnn'],
}
# Their backbones have no frozen_stages.
NOTHING_TO_FREEZE = (
    'caam/caam-resnet18_mask-rcnn_fpn_1x_coco.py',
    'caam/caam-t2t-vit-7_mask-rcnn_1x_coco.py',
    'eamlp/mask-rcnn_eamlp-7_1x_coco.py',
)
NAMES = (
    {
        f'{folder}/{system}_{detector}_r50_fpn_1x_coco.py'
        for folder, detectors in DETECTORS.items()
        for detector in detectors
        for system in ('ea', 'nl')
    }
    | {
        f'faster_rcnn/ea-neck{share}_faster-rcnn_r50_fpn_1x_coco.py'
        for share in ('', '-share')
    }
    | {
        *NOTHING_TO_FREEZE,
        'elsa_swin/elsa-swin-t_mask-rcnn_fpn_1x_coco.py',
        'halonet/halonet-h1_mask-rcnn_fpn_1x_coco.py',
        'stand_alone/stand-alone_retinanet_r50_fpn_1x_coco.py',
    }
)


def load(name, *options):
    return read_config(make_parser('').parse_args([name, *options]))


def load_demo(name):
    """The config as ``tools/train.py NAME --demo`` trains it."""
    return load(name, '--demo')


CASES = [pytest.param(load, name, id=name) for name in LEAVES] + [
    pytest.param(load_demo, name, id=f'{name}--demo') for name in COCO
]


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def has_masks(name):
    return 'mask-rcnn' in name


def heads(model_cfg):
    """Configs of the heads that classify."""
    if 'roi_head' not in model_cfg:
        return [model_cfg.bbox_head]
    found = []
    for key in ('bbox_head', 'mask_head'):
        head = model_cfg.roi_head.get(key, [])
        found += head if isinstance(head, list) else [head]
    return found


def build_model(cfg):
    """From random weights; few regions, for only the time depends on them."""
    if cfg.model.backbone.type == 'mmea.CaaMT2TViT':
        pytest.importorskip('mmpretrain.models')
    cfg.model.backbone.init_cfg = None
    train_cfg = cfg.model.train_cfg
    if 'rpn_proposal' in train_cfg:
        train_cfg.rpn_proposal.max_per_img = 50
        stages = train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 16
        cfg.model.test_cfg.rpn.max_per_img = 50
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def class_names(dataset_cfg):
    if 'metainfo' in dataset_cfg:
        return dataset_cfg.metainfo.classes
    return getattr(datasets, dataset_cfg.type).METAINFO['classes']


def write_data(dataset_cfg, root):
    """Two images of different shapes, the first and the last class."""
    names = class_names(dataset_cfg)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    folder = root / dataset_cfg.data_prefix.img
    folder.mkdir(parents=True, exist_ok=True)
    for i, (height, width) in enumerate([(96, 128), (128, 96)]):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(folder / f'{i}.jpg'), image)
        images.append(
            dict(id=i, file_name=f'{i}.jpg', height=height, width=width)
        )
        for k, x in enumerate((10, 50)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=[1, len(names)][k],
                    bbox=[x, 20, 32, 40],
                    segmentation=[[x, 20, x + 32, 20, x + 32, 60, x, 60]],
                    area=32 * 40,
                    iscrowd=0,
                )
            )
    path = root / dataset_cfg.ann_file
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
    path.write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )


def build_dataset(dataset_cfg, root):
    """Build a loader's data set on written data, of small images."""
    write_data(dataset_cfg, root)
    dataset_cfg.data_root = str(root)
    for step in dataset_cfg.pipeline:
        if 'scale' in step:
            step['scale'] = (128, 128)
    return DATASETS.build(dataset_cfg)


def differences(a, b, path=''):
    """Dotted keys at which two configs differ."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) == len(b):
            a, b = dict(enumerate(a)), dict(enumerate(b))
    if not isinstance(a, dict) or not isinstance(b, dict):
        return set() if a == b else {path}
    found = set()
    for key in {*a, *b}:
        here = f'{path}.{key}'.lstrip('.')
        if key in a and key in b:
            found |= differences(a[key], b[key], here)
        else:
            found.add(here)
    return found


class TestFiles:
    def test_leaves_are_found(self):
        assert set(COCO) == NAMES

    @pytest.mark.parametrize('name', COCO)
    def test_counterpart_differs_in_the_attention_only(self, name):
        if '/nl_' not in name:
            return
        ours, other = load(name.replace('/nl_', '/ea_')), load(name)
        assert other.model.backbone.attention.type == 'mmea.NonLocal2d'
        other.model.backbone.attention.type = 'mmea.ExternalAttention2d'
        other.work_dir = ours.work_dir
        assert ours.to_dict() == other.to_dict()

    @pytest.mark.parametrize('name', COCO)
    def test_settings_are_those_of_mmdet(self, name):
        folder, leaf = name.split('/')
        theirs = leaf.partition('_')[2]
        path = Path(mmdet.__file__).parent / '.mim/configs' / folder / theirs
        if not path.is_file():
            pytest.skip(f'this mmdet ships no {theirs}')
        want, got = Config.fromfile(path), load(name)
        assert differences(got.model.to_dict(), want.model.to_dict()) == {
            'data_preprocessor.type',
            'backbone.init_cfg.checkpoint',
            *(
                ['neck']
                if 'ea-neck' in name
                else [
                    f'backbone.{key}'
                    for key in ('type', 'base', 'after', 'attention')
                ]
            ),
        }
        if 'ea-neck' in name:
            assert got.model.neck[0] == want.model.neck
        for key in (
            'optim_wrapper',
            'param_scheduler',
            'train_cfg',
            'auto_scale_lr',
            'default_hooks',
            'env_cfg',
            'log_processor',
        ):
            assert got[key] == want[key], key
        loaders = {
            key: differences(got[key].to_dict(), want[key].to_dict())
            for key in ('train_dataloader', 'val_dataloader', 'val_evaluator')
        }
        for split in ('train', 'val'):
            assert loaders.pop(f'{split}_dataloader') == {
                'dataset.backend_args',
                'dataset.pipeline.0.type',
                'dataset.pipeline.0.backend_args',
            }
        assert loaders == {'val_evaluator': {'backend_args'}}

    def test_the_other_stage_is_one_option(self):
        name = 'mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco.py'
        for options, want in (
            ((), {'layer3': 1024}),
            (('--cfg-options', 'model.backbone.after=[C5]'), {'layer4': 2048}),
        ):
            cfg = load(name, *options)
            cfg.model.backbone.init_cfg = None
            backbone = MODELS.build(cfg.model.backbone)
            widths = {
                name.removesuffix('.attention'): module.in_channels
                for name, module in backbone.named_modules()
                if name.endswith('.attention')
            }
            assert widths == want


class TestModels:
    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_trains_a_step_and_reaches_every_parameter(
        self, loader, name, tmp_path
    ):
        cfg = loader(name)
        model = build_model(cfg).train()
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        dataset = build_dataset(cfg.train_dataloader.dataset, tmp_path)
        assert len(dataset) == 2
        batch = model.data_preprocessor(
            pseudo_collate([dataset[0], dataset[1]]), training=True
        )
        num_classes = len(dataset.metainfo['classes'])
        for sample in batch['data_samples']:
            labels = sample.gt_instances.labels.tolist()
            assert labels == [0, num_classes - 1]
        losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        assert loss.isfinite()
        assert any('mask' in key for key in losses) == has_masks(name)
        loss.backward()
        # DDP hangs on a parameter without a gradient.
        trained = {
            n: p for n, p in model.named_parameters() if p.requires_grad
        }
        assert [n for n, p in trained.items() if p.grad is None] == []
        before = {n: p.detach().clone() for n, p in trained.items()}
        optim_wrapper.step()
        moved = {n for n, p in trained.items() if not p.equal(before[n])}
        attention = {
            n
            for n in moved
            # A T2T-ViT calls a layer of its tokens-to-token module so.
            if '.attention' in n and '.tokens_to_token.' not in n
        }
        assert bool(attention) == Path(name).stem.startswith(('ea', 'nl_'))
        assert len(moved) > len(trained) / 2

    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_predicts(self, loader, name, tmp_path):
        cfg = loader(name)
        model = build_model(cfg).eval()
        dataset = build_dataset(cfg.val_dataloader.dataset, tmp_path)
        with torch.no_grad():
            (result,) = model.val_step(pseudo_collate([dataset[0]]))
        assert ('masks' in result.pred_instances) == has_masks(name)
        assert result.pred_instances.bboxes.shape[1] == 4
        assert result.ori_shape == (96, 128)
        # The ground truth keeps the size of the file, for the picture.
        boxes = result.gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        assert boxes.tolist() == [[10, 20, 42, 60], [50, 20, 82, 60]]

    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_heads_have_the_classes_of_the_data(self, loader, name):
        cfg = loader(name)
        number = len(class_names(cfg.train_dataloader.dataset))
        assert {head.num_classes for head in heads(cfg.model)} == {number}

    @pytest.mark.parametrize(('loader', 'name'), CASES)
    def test_schedule(self, loader, name):
        cfg = loader(name)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        for scheduler in cfg.param_scheduler:
            PARAM_SCHEDULERS.build(
                {
                    key: value
                    for key, value in scheduler.items()
                    if key != 'convert_to_iter_based'  # wants a data loader
                },
                default_args=dict(optimizer=optimizer),
            )
        length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
        assert cfg.param_scheduler[-1]['end'] == length
        assert length % cfg.default_hooks.checkpoint.interval == 0


class TestDemo:
    @pytest.mark.parametrize('name', COCO)
    def test_is_light_short_and_needs_no_network(self, name):
        cfg = load_demo(name)
        text = cfg.pretty_text
        assert '_delete_' not in text
        assert 'http' not in text
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
        assert sum(p.numel() for p in build_model(cfg).parameters()) < 7e6
        backbone = cfg.model.backbone
        assert not backbone.get('norm_eval')
        if name not in NOTHING_TO_FREEZE:
            assert backbone.frozen_stages == -1

    @pytest.mark.parametrize('name', COCO)
    def test_keeps_the_classes_and_the_net(self, name):
        real, demo = load(name), load_demo(name)
        kinds = [
            [part.type for part in (cfg.model, cfg.model.backbone)]
            + [head.type for head in heads(cfg.model)]
            for cfg in (real, demo)
        ]
        assert kinds[0] == kinds[1]
        assert demo.model.backbone.get('after') == real.model.backbone.get(
            'after'
        )
        necks = [
            neck if isinstance(neck, list) else [neck]
            for neck in (real.model.neck, demo.model.neck)
        ]
        assert [n.type for n in necks[0]] == [n.type for n in necks[1]]
        assert necks[0][-1].get('share') == necks[1][-1].get('share')
        for split in ('train', 'val', 'test'):
            a = real[f'{split}_dataloader'].dataset
            b = demo[f'{split}_dataloader'].dataset
            assert (a.type, a.ann_file) == (b.type, b.ann_file)
            assert a.data_prefix == b.data_prefix
            assert b.data_root == 'data/demo/coco/'
        assert set(demo.demo_scenes) == {
            'layout',
            'num_train',
            'num_val',
            'size',
            'seed',
        }

    @pytest.mark.parametrize('name', COCO)
    def test_lists_repeat_what_they_do_not_change(self, name):
        """A list is replaced whole: nothing but sizes may differ."""
        real, demo = load(name).model, load_demo(name).model
        sizes = {
            'in_channels',
            'out_channels',
            'fc_out_channels',
            'num',
            'norm_cfg',
        }
        for path in ('neck', 'roi_head.bbox_head', 'train_cfg.rcnn'):
            a, b = real.to_dict(), demo.to_dict()
            for key in path.split('.'):
                a, b = a.get(key, {}), b.get(key, {})
            if isinstance(a, list):
                for key in differences(a, b):
                    assert set(key.split('.')) & sizes, key

    @pytest.mark.parametrize('name', COCO)
    def test_hooks_and_metric(self, name):
        cfg = load_demo(name)
        assert [h['type'] for h in cfg.custom_hooks] == ['mmea.DetPictureHook']
        HOOKS.build(cfg.custom_hooks[0])
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.type == 'mmea.PresentCocoMetric'
            assert evaluator.classwise
            want = ['bbox', 'segm'] if has_masks(name) else 'bbox'
            assert evaluator.metric == want
            evaluator.ann_file = None
            METRICS.build(evaluator)
