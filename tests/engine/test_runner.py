import errno
from types import SimpleNamespace

import pytest
from mmengine.config import ConfigDict

from mmea.engine.runner import _replace_type, run
from mmea.errors import UserError


def test_number_of_classes(fails):
    message = fails('--cfg-options', 'model.decode_head.num_classes=19')
    assert 'decode_head.num_classes is 19' in message
    assert '150 classes' in message


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('num_slots=0', 'num_slots must be an int >= 1, got num_slots=0'),
        ('channels=-4', 'channels must be an int >= 1, got channels=-4'),
        ('num_slot=4', "did you mean 'num_slots'?"),
        ('type=mmea.Attention', "attention.type='mmea.Attention' is not reg"),
    ],
)
def test_parts_that_cannot_be_built(fails, option, words):
    message = fails('--cfg-options', f'model.decode_head.attention.{option}')
    assert 'tiny.py' in message and words in message


def test_unknown_part_of_the_model(fails):
    message = fails('--cfg-options', 'model.decode_head.type=mmea.EAHad')
    assert 'mmea.EAHad is not in the' in message


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('optim_wrapper.optimizer.type=Adm', "did you mean 'Adam'"),
        ('optim_wrapper.optimizer.mu=1', "unexpected keyword argument 'mu'"),
        ('param_scheduler.0.type=Poly', 'Poly is not in the'),
        ('val_evaluator.type=Mean', 'Mean is not in the'),
        ('train_dataloader.sampler.type=None', 'type must be'),
        ('train_dataloader.dataset.pipeline.2.type=Pack', 'Pack is not in'),
        ('default_hooks.logger.interval=x', 'interval must be an'),
        ('model.decode_head.loss_decode.class_weight=[1.0]', 'weight'),
        ('default_hooks.checkpoint.interval=0', 'would save no checkpoint'),
    ],
)
def test_what_is_built_late(fails, option, words):
    """All of it in one line, before anything was trained."""
    assert words in fails('--cfg-options', option)


def runner(tmp_path):
    hooks = []
    return SimpleNamespace(
        cfg=SimpleNamespace(filename='x.py'),
        work_dir=str(tmp_path),
        hooks=hooks,
        register_hook=hooks.append,
    )


@pytest.mark.parametrize('done', [False, True])
def test_an_error_of_the_training_keeps_its_traceback(done, tmp_path):
    found = runner(tmp_path)

    def start():
        if done:
            found.hooks[0].after_train_iter(found, 0)
        raise KeyError('name')

    expected = KeyError if done else UserError
    with pytest.raises(expected, match='name') as info:
        run(found, start)
    if not done:
        assert 'cannot run x.py: KeyError: name (MMEA' in str(info.value)


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: K.'),
            'worker of a data loader was killed',
        ),
        (OSError(errno.ENOSPC, 'No space', 'a.pth'), 'to a.pth: no room'),
        (
            RuntimeError(
                '[enforce fail] . PytorchStreamWriter failed writing'
            ),
            'no room on the disk',
        ),
    ],
    ids=['worker', 'disk', 'checkpoint'],
)
def test_the_machine_fails(error, words, tmp_path):
    found = runner(tmp_path)

    def start():
        found.hooks[0].after_train_iter(found, 0)
        raise error

    with pytest.raises(UserError, match=words):
        run(found, start)


def test_sync_bn_becomes_bn_everywhere():
    cfg = ConfigDict(
        dict(
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            head=[dict(attention=dict(norm_cfg=dict(type='SyncBN')))],
            neck=dict(norm_cfg=dict(type='GN')),
        )
    )
    assert _replace_type(cfg, 'SyncBN', 'BN')
    assert cfg.norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.head[0].attention.norm_cfg.type == 'BN'
    assert cfg.neck.norm_cfg.type == 'GN'
    assert not _replace_type(cfg, 'SyncBN', 'BN')
