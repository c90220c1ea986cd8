"""The configs of detection build, read data and take a training step."""

import ast
import copy
import json
import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

mmdet = pytest.importorskip('mmdet')
datasets = pytest.importorskip('mmdet.datasets')
pytest.importorskip('mmdet.models')

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
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
    parts,
    reach_every_parameter,
    tensors,
    train_a_step,
    with_demo,
)

SCOPE = 'mmdet'
LEAVES = leaves(SCOPE)
COCO = with_demo(LEAVES)
LIGHT = [name for name in LEAVES if name not in COCO]  # as they are
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
        'mobilenet_v2/ea_mask-rcnn_mobilenet-v2_fpn_1x_coco.py',
        'mobilenet_v2/ea_retinanet_mobilenet-v2_fpn_1x_coco.py',
        'mobilenet_v2/retinanet_mobilenet-v2_fpn_1x_coco.py',
        'stand_alone/stand-alone_retinanet_r50_fpn_1x_coco.py',
        'volo/volo-d1_retinanet_fpn_1x_coco.py',
    }
)


def has_masks(name):
    return 'mask-rcnn' in name


def should_have_attention(name):
    return Path(name).stem.startswith(('ea', 'nl_'))


def has_attention(parameters):
    return any(
        '.attention' in name
        # A T2T-ViT calls a layer of its tokens-to-token module so.
        and '.tokens_to_token.' not in name
        for name in parameters
    )


def few_regions(cfg):
    """Only the time depends on their number."""
    train_cfg = cfg.model.train_cfg
    if 'rpn_proposal' in train_cfg:
        train_cfg.rpn_proposal.max_per_img = 50
        stages = train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 16
        cfg.model.test_cfg.rpn.max_per_img = 50
    return cfg


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


def read(dataset_cfg):
    """The classes, and both samples of a data set on written data.

    Many configs share a data set: it is read once.
    """
    return copy.deepcopy(_read(repr(dataset_cfg.to_dict())))


@lru_cache(None)
def _read(text):
    dataset_cfg = ConfigDict(ast.literal_eval(text))
    for step in dataset_cfg.pipeline:
        if 'scale' in step:
            step.scale = (128, 128)
    with tempfile.TemporaryDirectory() as root:
        write_data(dataset_cfg, Path(root))
        dataset_cfg.data_root = root
        dataset = DATASETS.build(dataset_cfg)
        assert len(dataset) == 2
        return dataset.metainfo['classes'], [dataset[0], dataset[1]]


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

    @pytest.mark.parametrize('name', [n for n in COCO if '/nl_' in n])
    def test_counterpart_differs_in_the_attention_only(self, name):
        ours, other = load(name.replace('/nl_', '/ea_')), load(name)
        assert other.model.backbone.attention.type == 'mmea.NonLocal2d'
        other.model.backbone.attention.type = 'mmea.ExternalAttention2d'
        other.work_dir = ours.work_dir
        assert ours.to_dict() == other.to_dict()

    @pytest.mark.parametrize(
        'name', [n for n in COCO if n.split('/')[0] in DETECTORS]
    )
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
                'dataset.pipeline.0.backend_args',
            }
        assert loaders == {'val_evaluator': {'backend_args'}}

    @pytest.mark.parametrize(
        'plain',
        [
            'bccd/retinanet_mobilenet-v2_fpn_1xb4_bccd-320x240.py',
            'mobilenet_v2/retinanet_mobilenet-v2_fpn_1x_coco.py',
        ],
    )
    def test_pair_differs_in_the_neck_only(self, plain):
        plain, ea = load(plain), load(plain.replace('/', '/ea_'))
        ea.model.neck, attention = ea.model.neck
        assert attention.type == 'mmea.EANeck'
        assert set(attention.in_channels) == {plain.model.neck.out_channels}
        ea.work_dir = plain.work_dir
        ea.demo_model = plain.demo_model
        assert ea.to_dict() == plain.to_dict()

    @pytest.mark.parametrize('name', ['mask-rcnn', 'retinanet'])
    def test_mobilenet_is_trained_as_resnet(self, name):
        net = f'ea_{name}_{{}}_fpn_1x_coco.py'
        mobile = load('mobilenet_v2/' + net.format('mobilenet-v2'))
        resnet = load(f'{name.replace("-", "_")}/' + net.format('r50'))
        backbone = mobile.model.backbone
        assert backbone.init_cfg.type == 'mmea.Pretrained'
        assert '/mobilenet_v2-' in backbone.init_cfg.checkpoint
        for key in ('norm_cfg', 'norm_eval'):
            assert backbone[key] == resnet.model.backbone[key]
        neck = mobile.model.neck[0]
        neck.in_channels = resnet.model.neck.in_channels
        changed = {'add_extra_convs'} if name == 'retinanet' else set()
        assert differences(neck, resnet.model.neck) == changed
        found = differences(mobile.to_dict(), resnet.to_dict())
        assert {key.partition('.backbone')[0] for key in found} == {
            'model',
            'model.neck',
            'demo_model',
            'work_dir',
        }

    def test_the_other_stage_is_one_option(self):
        name = 'mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco.py'
        for options, want in (
            ((), {'layer3': 1024}),
            (('--cfg-options', 'model.backbone.after=[C5]'), {'layer4': 2048}),
        ):
            cfg = load(name, *options)
            backbone = MODELS.build(cfg.model.backbone)
            widths = {
                name.removesuffix('.attention'): module.in_channels
                for name, module in backbone.named_modules()
                if name.endswith('.attention')
            }
            assert widths == want

    @cases(LEAVES, COCO)
    def test_heads_have_the_classes_of_the_data(self, args):
        cfg = load(*args)
        number = len(class_names(cfg.train_dataloader.dataset))
        heads = [
            part
            for path, part in parts(cfg.model).items()
            if path.rpartition('.')[0].endswith(('bbox_head', 'mask_head'))
        ]
        assert {head.num_classes for head in heads} == {number}

    @cases(LEAVES, COCO)
    def test_schedule(self, args):
        cfg = load(*args)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        build_schedulers(cfg, optimizer)
        assert cfg.param_scheduler[-1]['end'] == length(cfg)
        assert length(cfg) % cfg.default_hooks.checkpoint.interval == 0

    @pytest.mark.parametrize('name', COCO)
    def test_demo_is_trained_whole(self, name):
        backbone = load(name, '--demo').model.backbone
        assert not backbone.get('norm_eval')
        if name not in NOTHING_TO_FREEZE:
            assert backbone.frozen_stages == -1

    @pytest.mark.parametrize('name', COCO)
    def test_demo_shows_its_classes(self, name):
        cfg = load(name, '--demo')
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            assert evaluator.classwise
            want = ['bbox', 'segm'] if has_masks(name) else 'bbox'
            assert evaluator.metric == want

    @pytest.mark.parametrize('name', COCO)
    def test_lists_repeat_what_they_do_not_change(self, name):
        """A list is replaced whole: nothing but sizes may differ."""
        real, demo = load(name).model, load(name, '--demo').model
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


def outputs(model, image):
    """Of all heads, those of regions on a few."""
    feats = model.extract_feat(image)
    if not hasattr(model, 'roi_head'):
        return tensors(model.bbox_head(feats))
    found = tensors(model.rpn_head(feats))
    for name in ('bbox', 'mask'):
        heads = getattr(model.roi_head, f'{name}_head', [])
        pools = getattr(model.roi_head, f'{name}_roi_extractor', None)
        if isinstance(heads, torch.nn.ModuleList):
            pairs = zip(heads, pools, strict=True)
        else:
            pairs = [(heads, pools)] if heads else []
        for head, pool in pairs:
            size = pool.roi_layers[0].output_size
            regions = image.new_empty(4, pool.out_channels, *size)
            found += tensors(head(regions))
    return found


class TestModels:
    @pytest.mark.parametrize('name', COCO)
    def test_full_size(self, name):
        cfg = load(name)
        model = build_on_meta(cfg).train()
        build_optimizer(model, cfg)
        found = outputs(model, torch.randn(2, 3, 64, 96, device='meta'))
        trained = reach_every_parameter(model, sum(o.sum() for o in found))
        assert has_attention(trained) == should_have_attention(name)

    @cases(LIGHT, COCO)
    def test_predicts_and_trains_a_step(self, args):
        name, cfg = args[0], few_regions(load(*args))
        model = build_model(cfg).eval()
        if '--demo' in args:
            assert number_of_parameters(model) < 7e6
        if name.startswith('bccd/'):
            assert number_of_parameters(model) <= 4e6
        samples = read(cfg.val_dataloader.dataset)[1]
        with torch.no_grad():
            (result,) = model.val_step(pseudo_collate(samples[:1]))
        assert ('masks' in result.pred_instances) == has_masks(name)
        assert result.pred_instances.bboxes.shape[1] == 4
        data = pseudo_collate(read(cfg.train_dataloader.dataset)[1])
        losses, moved = train_a_step(model, cfg, data)
        assert any('mask' in key for key in losses) == has_masks(name)
        assert has_attention(moved) == should_have_attention(name)


class TestData:
    @cases(LEAVES, COCO)
    def test_train_pipeline(self, args):
        classes, samples = read(load(*args).train_dataloader.dataset)
        for sample in samples:
            labels = sample['data_samples'].gt_instances.labels.tolist()
            assert labels == [0, len(classes) - 1]

    @cases(LEAVES, COCO)
    @pytest.mark.parametrize('split', ['val', 'test'])
    def test_test_pipeline(self, split, args):
        _, samples = read(load(*args)[f'{split}_dataloader'].dataset)
        sample = samples[0]['data_samples']
        assert sample.ori_shape == (96, 128)
        # The ground truth keeps the size of the file, for the picture.
        boxes = sample.gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        assert boxes.tolist() == [[10, 20, 42, 60], [50, 20, 82, 60]]
