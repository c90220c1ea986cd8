import pytest
from mmengine.config import ConfigDict

from mmea.engine.runner import _replace_type


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
