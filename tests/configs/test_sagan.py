"""SAGAN's configs: their demo, and how a GAN goes through the commands."""

import pytest
from mmengine.registry import HOOKS, MODELS

from mmea.registry import METRICS

from .harness import leaves, load, number_of_parameters

ALL = [name for name in leaves('mmengine') if name.startswith('sagan/')]


@pytest.mark.parametrize('name', ALL)
def test_demo(name):
    real, demo = load(name), load(name, '--demo')
    assert '_delete_' not in demo.pretty_text
    for part in ('generator', 'discriminator'):
        own = demo.model[part]
        assert own.attention == real.model[part].attention
        assert (own.img_size, own.num_classes) == (32, 6)
    assert demo.model.get('discriminator_steps', 1) == 1
    assert 1e5 < number_of_parameters(MODELS.build(demo.model)) < 1e6
    assert demo.train_cfg.val_interval == demo.train_cfg.max_iters
    scenes = demo.demo_scenes
    assert scenes.layout == 'imagenet' and scenes['size'] == (32, 32)
    sets = {
        split: demo[f'{split}_dataloader'].dataset
        for split in ('train', 'val', 'test')
    }
    for split, data in sets.items():
        assert data.type == 'mmea.ClassFolders' and data.img_size == 32
        assert data.split == ('train' if split == 'train' else 'val')
        assert data.data_root == sets['train'].data_root
        assert len(data.classes) == 6
    judge = demo.val_evaluator.extractor
    assert judge.dataset.split == 'train' and 'flip' not in judge.dataset
    assert [hook['type'] for hook in demo.custom_hooks] == [
        'mmea.FirstValidationHook', 'mmea.GANSampleHook',
    ]  # fmt: skip
    for hook in demo.custom_hooks:
        HOOKS.build(hook)
    assert demo.test_evaluator == demo.val_evaluator


@pytest.mark.parametrize('name', ALL)
def test_validates_as_it_says(name):
    """The metric by which the best checkpoint is kept is the one there is."""
    for cfg in (load(name), load(name, '--demo')):
        metric = METRICS.build(cfg.val_evaluator)
        found = f'frechet_distance_{metric.extractor.name}'
        key = cfg.default_hooks.checkpoint.save_best
        assert key == f'{metric.prefix}/{found}'
        assert cfg.default_hooks.checkpoint.rule == 'less'
        assert cfg.model_wrapper_cfg.type == 'mmea.GANDistributed'
