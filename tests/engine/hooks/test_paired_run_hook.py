import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmea import train
from mmea.compare.members import config_with, host_of, parse_member
from mmea.engine.checkpoint import load_checkpoint
from mmea.engine.hooks import PairedRunHook

# Nothing is learned: what differs later differed at the start, or in what the
# statistics of batch norms saw of the images.
EXTRA = """
_base_ = './tiny.py'
model = dict(
    backbone=dict(norm_cfg=dict(_delete_=True, type='BN')),
    decode_head=dict(dropout_ratio=0.5))
train_dataloader = dict(sampler=dict(shuffle=True))
train_pipeline = [dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.0, momentum=0.0))
"""


def start(run, member: str, seed: int, *options: str) -> dict:
    cfg = Config.fromfile('start.py')
    host = host_of(cfg)
    cfg = config_with(cfg, parse_member(member))
    cfg.custom_hooks += [dict(type='mmea.PairedRunHook', host=host)]
    cfg.dump('own.py')
    name = f'{member}-{seed}'.replace(':', '_')
    options += (f'randomness.seed={seed}', 'train_cfg.val_interval=9')
    arguments = ('--work-dir', name, '--cfg-options', *options)
    run(train.main, 'own.py', *arguments)
    return load_checkpoint(f'{name}/iter_4.pth', 'cpu')['state_dict']


@pytest.fixture
def project(project):
    Path('start.py').write_text(EXTRA)
    return project


def test_one_seed_is_one_start_and_one_order_of_images(project, run):
    none = start(run, 'none', 0)
    # It draws many random values before the head's convolutions do.
    other = start(run, 'ExternalAttention2d:num_slots=8', 0)
    for name, value in none.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0)
    assert any(name.startswith('decode_head.attention.') for name in other)
    changed = start(run, 'none', 1)
    for name in (
        'backbone.conv1.weight',
        'backbone.bn1.running_mean',
        'decode_head.conv_seg.weight',
    ):
        assert not torch.equal(changed[name], none[name])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_resumed_run_sees_what_it_would_have_seen(project, run, workers):
    """Order and augmentation of the images, by statistics of batch norms."""
    options = [f'train_dataloader.num_workers={workers}']
    options += ['default_hooks.checkpoint.interval=1']
    whole = start(run, 'none', 0, *options)
    for path in Path('none-0').glob('iter_[34].pth'):
        path.unlink()
    Path('none-0/last_checkpoint').write_text('none-0/iter_2.pth')
    arguments = ('--resume', '--work-dir', 'none-0', '--cfg-options')
    options += ['randomness.seed=0', 'train_cfg.val_interval=9']
    run(train.main, 'own.py', *arguments, *options)
    found = load_checkpoint('none-0/iter_4.pth', 'cpu')['state_dict']
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_the_control_starts_as_what_it_controls(project, run):
    ours = start(run, 'ExternalAttention2d', 0)
    control = start(run, 'control', 0)
    assert ours.keys() == control.keys()
    for name, value in ours.items():
        if '.norm.' not in name:  # its statistics are of another output
            torch.testing.assert_close(control[name], value, rtol=0, atol=0)


def test_load_from_is_the_start_of_what_it_holds(project, run):
    first = start(run, 'none', 0)
    option = 'load_from=none-0/iter_4.pth'
    second = start(run, 'ExternalAttention2d', 7, option)
    name = 'decode_head.conv_seg.weight'
    assert torch.equal(second[name], first[name])


def test_random_numbers_are_those_of_seed_and_iteration():
    hook = PairedRunHook(host={})

    def draw(seed: int, iteration: int) -> tuple:
        hook.before_train_iter(SimpleNamespace(seed=seed, iter=iteration), 0)
        return random.random(), np.random.rand(), torch.rand(1).item()

    first = draw(0, 5)
    draw(0, 6)
    assert draw(0, 5) == first  # as after a resumption
    for a, b in zip(first, draw(0, 6)):
        assert a != b
    for a, b in zip(first, draw(1, 5)):
        assert a != b
    draw(2**32 - 1, 10)  # the largest seed of numpy
