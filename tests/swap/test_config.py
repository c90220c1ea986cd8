import pytest
from mmengine.registry import MODELS

from .harness import ANY, get_config


def test_further_keys():
    _, cfg = get_config('nlnet')
    other = dict(type='SegDataPreProcessor', size=(8, 8))
    model = MODELS.build(
        dict(
            type='mmea.SwapAttention',
            model=cfg,
            rules=ANY,
            data_preprocessor=other,  # the Runner's default
            decode_head=dict(num_classes=5),
            train_cfg=None,
        )
    )
    assert model.decode_head.num_classes == 5
    assert model.data_preprocessor.size == (64, 64)
    assert model.train_cfg is None
    del cfg['data_preprocessor']
    model = MODELS.build(
        dict(
            type='mmea.SwapAttention',
            model=cfg,
            rules=ANY,
            data_preprocessor=other,
        )
    )
    assert model.data_preprocessor.size == (8, 8)


def test_nothing_to_do():
    _, cfg = get_config('danet')
    with pytest.raises(ValueError, match='nothing was swapped') as error:
        MODELS.build(dict(type='mmea.SwapAttention', model=cfg, rules=ANY))
    assert 'decode_head.pam' in str(error.value)
