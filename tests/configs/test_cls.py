"""The configs of classification build, read data and take a step."""

import ast
import copy
import re
import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

mmpretrain = pytest.importorskip('mmpretrain')
pytest.importorskip('mmpretrain.models')

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.dataset import default_collate  # noqa: E402
from mmengine.registry import DATASETS, HOOKS  # noqa: E402

import mmea  # noqa: E402

from .harness import (  # noqa: E402
    build_model,
    build_on_meta,
    build_optimizer,
    build_schedulers,
    leaves,
    load,
    number_of_parameters,
    train_a_step,
)

BASE = Path(mmea.__file__).parent / '.mim/configs/_base_'
THEIRS = Path(mmpretrain.__file__).parent / '.mim/configs'
SCOPE = 'mmpretrain'
LEAVES = leaves(SCOPE)
SIDE = 64  # pixels; attention in tokens needs a few of them
# Counted; the papers' are these to their digits.
PARAMETERS = {
    'eamlp/eamlp-7_8xb64_in1k-384.py': 6_096_206,
    'eamlp/eamlp-14_8xb64_in1k.py': 29_801_422,
    'eamlp/eamlp-19_8xb64_in1k.py': 54_470_798,
    'elsa_swin/elsa-swin-t_8xb128_in1k.py': 29_140_978,
    'elsa_swin/elsa-swin-s_8xb128_in1k.py': 52_874_626,
    'elsa_swin/elsa-swin-b_8xb128_in1k.py': 92_682_464,
    'halonet/halonet-h0_8xb32_in1k-256.py': 5_502_248,
    'halonet/halonet-h1_8xb32_in1k-256.py': 8_101_352,
    'halonet/halonet-h2_8xb32_in1k-256.py': 9_405_608,
    'halonet/halonet-h3_8xb32_in1k-320.py': 11_842_792,
    'halonet/halonet-h4_8xb32_in1k-384.py': 19_103_464,
    'halonet/halonet-h5_8xb32_in1k-448.py': 30_718_952,
    'halonet/halonet-h6_8xb32_in1k-512.py': 43_458_280,
    'halonet/halonet-h7_8xb32_in1k-600.py': 67_434_728,
    'stand_alone/stand-alone_resnet26_8xb32_in1k.py': 10_342_632,
    'stand_alone/stand-alone_resnet38_8xb32_in1k.py': 14_190_632,
    'stand_alone/stand-alone_resnet50_8xb32_in1k.py': 18_038_632,
    'volo/elsa-volo-d1_8xb128_in1k.py': 26_672_168,
    'volo/volo-d1_8xb128_in1k.py': 26_632_040,
    'volo/volo-d2_8xb128_in1k.py': 58_678_336,
    'volo/volo-d3_8xb128_in1k.py': 86_325_072,
    'volo/volo-d4_8xb128_in1k.py': 192_961_520,
    'volo/volo-d5_8xb128_in1k.py': 295_455_584,
}
# These hold a net with and without attention.
PAIRS = {
    'classification/': 'classification/resnet50_8xb32_in1k.py',
    'mobilenet_v2/': 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
}


def family(name):
    """Its demos have one net, but for the pairs."""
    return name.partition('-d' if name.startswith('volo/') else '/')[0]


DEMOS = [
    name
    for i, name in enumerate(LEAVES)
    if name.startswith(tuple(PAIRS))
    or family(name) not in map(family, LEAVES[:i])
]


def write_data(dataset_cfg, root):
    """An image of the first and one of the last class."""
    rng = np.random.default_rng(0)
    split = dataset_cfg.split
    (root / split / 'x').mkdir(parents=True)
    for i, size in enumerate([(96, 128), (128, 80)]):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(root / f'{split}/x/{i}.jpg'), image)
    (root / 'meta').mkdir()
    lines = 'x/0.jpg 0\nx/1.jpg 999\n'
    (root / f'meta/{split}.txt').write_text(lines)


def read(dataset_cfg):
    """Both samples of a data set on written data, as small images.

    Many configs share a data set: it is read once.
    """
    return copy.deepcopy(_read(repr(dataset_cfg.to_dict())))


@lru_cache(None)
def _read(text):
    dataset_cfg = ConfigDict(ast.literal_eval(text))
    for step in dataset_cfg.pipeline:
        for size in ('scale', 'crop_size'):
            if size in step:
                step[size] = SIDE
    with tempfile.TemporaryDirectory() as root:
        write_data(dataset_cfg, Path(root))
        dataset_cfg.data_root = root
        dataset = DATASETS.build(dataset_cfg)
        samples = [dataset[0], dataset[1]]
        # As the picture hook wants it.
        assert all(Path(s['data_samples'].img_path).is_file() for s in samples)
        return samples


def rates(cfg):
    """Learning rate in each epoch."""
    optimizer = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], cfg.optim_wrapper.optimizer.lr
    )
    schedulers = build_schedulers(cfg, optimizer)
    found = []
    for _ in range(cfg.train_cfg.max_epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


class TestFiles:
    def test_pair_differs_in_the_attention_only(self):
        name = 'classification/resnet50_8xb32_in1k.py'
        plain, ea = load(name), load(name.replace('/', '/ea_'))
        backbone = ea.model.backbone
        assert backbone.pop('type') == 'mmea.StageAttentionResNet'
        assert backbone.pop('after') == ['C4']
        assert backbone.pop('attention').type == 'mmea.ExternalAttention2d'
        backbone['type'] = backbone.pop('base')
        ea.work_dir = plain.work_dir
        assert ea.to_dict() == plain.to_dict()

    def test_mobilenet_pair_differs_in_the_neck_only(self):
        name = PAIRS['mobilenet_v2/']
        plain, ea = load(name), load(name.replace('/', '/ea_'))
        attention, ea.model.neck = ea.model.neck
        assert attention.type == 'mmea.EANeck'
        assert attention.in_channels == [plain.model.head.in_channels]
        ea.work_dir = plain.work_dir
        assert ea.to_dict() == plain.to_dict()

    @pytest.mark.parametrize(
        ('theirs', 'ours'),
        [
            ('resnet', PAIRS['classification/']),
            ('mobilenet_v2', PAIRS['mobilenet_v2/']),
        ],
    )
    def test_net_is_that_of_mmpretrain(self, theirs, ours):
        want = Config.fromfile(THEIRS / theirs / Path(ours).name)
        got = load(ours)
        preprocessor = got.model.pop('data_preprocessor')
        assert preprocessor.pop('type') == 'ClsDataPreprocessor'
        assert preprocessor == want.data_preprocessor
        assert got.model == want.model
        assert got.optim_wrapper.optimizer == want.optim_wrapper.optimizer
        (scheduler,) = got.param_scheduler
        assert {**scheduler, **want.param_scheduler} == scheduler
        assert got.train_cfg.max_epochs == want.train_cfg.max_epochs
        for key in ('train', 'val'):
            ours = got[f'{key}_dataloader'].dataset.pipeline
            theirs = want[f'{key}_dataloader'].dataset.pipeline
            for step in theirs:
                step.pop('backend', None)  # pillow, for MobileNetV2
            assert ours == theirs
        assert got.val_evaluator == want.val_evaluator

    def test_augmentation_is_that_of_mmpretrain(self):
        theirs = THEIRS / '_base_/datasets/imagenet_bs64_swin_224.py'
        want = Config.fromfile(theirs)
        got = Config.fromfile(BASE / 'datasets/imagenet_randaug.py')
        for key in ('train', 'val'):
            ours = got[f'{key}_dataloader'].dataset.pipeline
            theirs = want[f'{key}_dataloader'].dataset.pipeline
            assert ours[1:] == theirs[1:]
        assert got.test_dataloader == got.val_dataloader

    @pytest.mark.parametrize('side', [256, 320, 384, 448, 512, 600])
    def test_larger_images_are_augmented_alike(self, side):
        small, larger = (
            Config.fromfile(BASE / f'datasets/imagenet_randaug{suffix}.py')
            for suffix in ('', f'_{side}')
        )
        for key in ('train_pipeline', 'test_pipeline'):
            for a, b in zip(small[key], larger[key], strict=True):
                changed = {k for k in a if a[k] != b[k]}
                assert changed <= {'scale', 'crop_size'}
                sized = {'scale', 'crop_size'} & {*b}
                assert all(b[k] == side for k in sized)
        assert larger.train_dataloader.dataset.pipeline == (
            larger.train_pipeline
        )
        assert larger.test_dataloader.dataset.pipeline == larger.test_pipeline
        assert larger.tta_pipeline[:-1] == larger.test_pipeline[:-1]

    @pytest.mark.parametrize(
        ('name', 'length', 'values'),
        [
            ('sgd_100e', 100, {0: 0.1, 29: 0.1, 30: 0.01, 99: 1e-4}),
            ('sgd_300e', 300, {0: 1e-3, 5: 0.1, 299: 2.835e-6}),
            ('sgd_300e_step', 300, {0: 0.045, 1: 0.0441, 299: 1.071e-4}),
            ('adamw_300e', 300, {0: 1e-6, 20: 1e-3, 160: 5.05e-4, 299: 1e-5}),
            ('adamw_310e', 310, {0: 1e-6, 5: 1e-3, 300: 1e-5, 309: 1e-5}),
            (
                'adamw_310e_volo',
                310,
                {0: 1.6e-6, 20: 1.6e-3, 300: 1e-5, 309: 1e-5},
            ),
        ],
    )
    def test_learning_rates(self, name, length, values):
        cfg = Config.fromfile(BASE / f'schedules/imagenet_{name}.py')
        found = rates(cfg)
        assert len(found) == length
        for epoch, value in values.items():
            assert found[epoch] == pytest.approx(value, rel=0.02, abs=0)
        assert length % cfg.default_hooks.checkpoint.interval == 0

    @pytest.mark.parametrize('name', LEAVES)
    def test_batch_and_side_are_those_of_the_name(self, name):
        gpus, batch, side = re.search(
            r'_(\d+)xb(\d+)_in1k(?:-(\d+))?\.py', name
        ).groups()
        cfg = load(name)
        assert cfg.train_dataloader.batch_size == int(batch)
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
        side = int(side or 224)
        crop = cfg.train_dataloader.dataset.pipeline[1]
        assert (crop.type, crop.scale) == ('RandomResizedCrop', side)
        edge, crop = cfg.val_dataloader.dataset.pipeline[1:3]
        assert (edge.type, crop.type) == ('ResizeEdge', 'CenterCrop')
        assert crop.crop_size == side
        assert edge.scale == (256 if side == 224 else side)
        assert cfg.model.backbone.get('img_size', side) == side

    def test_stand_alone_differs_from_resnet_in_the_net_only(self):
        plain, attention = (
            load(name)
            for name in (
                'classification/resnet50_8xb32_in1k.py',
                'stand_alone/stand-alone_resnet50_8xb32_in1k.py',
            )
        )
        backbone = attention.model.backbone
        assert backbone.pop('type') == 'mmea.LocalAttentionResNet'
        assert backbone.pop('from_stage') == 'C2'
        assert backbone.pop('attention').type == 'mmea.StandAloneAttention2d'
        backbone['type'] = backbone.pop('base')
        attention.work_dir = plain.work_dir
        assert attention.to_dict() == plain.to_dict()

    @pytest.mark.parametrize(
        ('name', 'rate'), [('t', 0.1), ('s', 0.3), ('b', 0.5)]
    )
    def test_elsa_swin_is_trained_as_mmpretrain_trains_swin(self, name, rate):
        got = load(f'elsa_swin/elsa-swin-{name}_8xb128_in1k.py')
        size = dict(t='tiny', s='small', b='base')[name]
        want = Config.fromfile(
            THEIRS / f'_base_/models/swin_transformer/{size}_224.py'
        )
        got.model.pop('data_preprocessor')
        backbone = got.model.pop('backbone')
        want.model.pop('backbone')
        assert got.model == want.model
        # Other than there; as the authors'.
        assert (backbone.arch, backbone.drop_path_rate) == (size, rate)
        momenta = [h.momentum for h in got.get('custom_hooks') or []]
        assert momenta == ([pytest.approx(1 - 0.99992)] if name == 'b' else [])

    def test_eamlp_is_mixed_and_smoothed_as_a_t2t_vit(self):
        want = Config.fromfile(THEIRS / '_base_/models/t2t-vit-t-14.py').model
        for name in LEAVES:
            if name.startswith('eamlp/'):
                got = load(name).model
                assert got.train_cfg == want.train_cfg
                assert got.head.loss == want.head.loss
                assert got.head.init_cfg == want.head.init_cfg
                assert got.backbone.drop_path_rate == 0.1

    def test_volo_has_no_decay_of_its_tokens(self):
        cfg = load('volo/volo-d2_8xb128_in1k.py')
        wrapper = build_optimizer(build_on_meta(cfg), cfg)
        groups = wrapper.optimizer.param_groups
        assert {g['weight_decay'] for g in groups} == {0.0, 0.05}
        for group in groups:
            assert group['lr'] == 1e-3
            (param,) = group['params']
            if param.dim() < 2 or len(param) == 1:  # the token, positions
                assert group['weight_decay'] == 0

    def test_elsa_volo_differs_in_the_attention_only(self):
        plain, elsa = (
            load(f'volo/{name}_8xb128_in1k.py')
            for name in ('volo-d1', 'elsa-volo-d1')
        )
        assert elsa.model.backbone.attention == dict(type='mmea.ELSA2d')
        elsa.model.backbone.attention.type = 'mmea.OutlookAttention2d'
        elsa.work_dir = plain.work_dir
        assert elsa.to_dict() == plain.to_dict()

    def test_eamlp_schedule_averages_the_weights(self):
        cfg = Config.fromfile(BASE / 'schedules/imagenet_adamw_310e.py')
        (hook,) = cfg.custom_hooks
        assert 1 - hook['momentum'] == pytest.approx(0.99996)
        HOOKS.build(hook)


class TestModels:
    @pytest.mark.parametrize('name', LEAVES)
    def test_full_size(self, name):
        cfg = load(name)
        model = build_on_meta(cfg).eval()
        if name in PARAMETERS:
            assert number_of_parameters(model) == PARAMETERS[name]
        build_optimizer(model, cfg)
        side = cfg.train_dataloader.dataset.pipeline[1].scale
        with torch.no_grad():
            out = model(torch.empty(2, 3, side, side, device='meta'))
        assert out.shape == (2, 1000)

    @pytest.mark.parametrize('name', DEMOS)
    def test_demo_predicts_and_trains_a_step(self, name):
        cfg = load(name, '--demo')
        if 'img_size' in cfg.model.backbone:
            cfg.model.backbone.img_size = SIDE
        model = build_model(cfg).eval()
        assert number_of_parameters(model) < 7e6
        data = default_collate(read(cfg.val_dataloader.dataset))
        with torch.no_grad():
            results = model.val_step(data)
        assert [r.gt_label.item() for r in results] == [0, 999]
        for result in results:
            assert result.pred_score.shape == (1000,)
            assert result.pred_score.sum().item() == pytest.approx(1, abs=1e-4)
        data = default_collate(read(cfg.train_dataloader.dataset))
        _, moved = train_a_step(model, cfg, data)
        if Path(name).stem.startswith('ea_'):
            assert any('.attention' in n for n in moved)

    @pytest.mark.parametrize('name', PAIRS.values())
    def test_starts_as_its_counterpart(self, name):
        plain, ea = (
            build_model(load(n, '--demo')).eval()
            for n in (name, name.replace('/', '/ea_'))
        )
        found = ea.load_state_dict(plain.state_dict(), strict=False)
        assert not found.unexpected_keys
        assert {key.rsplit('.', 2)[0] for key in found.missing_keys} <= {
            'backbone.layer3.attention',
            'backbone.layer3',
            'neck.0.attentions.0',
            'neck.0.attentions',
        }
        image = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(ea(image), plain(image))

    @pytest.mark.parametrize('name', sorted(set(LEAVES) - set(DEMOS)))
    def test_demo_is_that_of_its_family(self, name):
        (first,) = (n for n in DEMOS if family(n) == family(name))
        assert load(name, '--demo').model == load(first, '--demo').model


class TestData:
    @pytest.mark.parametrize('demo', [False, True])
    @pytest.mark.parametrize('name', LEAVES)
    def test_pipelines(self, name, demo):
        cfg = load(name, *['--demo'][:demo])
        for split in ('train', 'val', 'test'):
            samples = read(cfg[f'{split}_dataloader'].dataset)
            for label, sample in zip((0, 999), samples, strict=True):
                assert sample['inputs'].shape == (3, SIDE, SIDE)
                assert sample['data_samples'].gt_label.item() == label
