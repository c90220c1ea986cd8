"""An odd argument of a part or a wing: built, or one error that names it."""

import inspect

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from torch import nn

from mmea.errors import UserError
from mmea.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

ODD = [
    0,
    -1,
    True,
    2.5,
    float('nan'),
    float('inf'),
    '4',
    '',
    None,
    np.int64(2),
    [4],
    {},
    nn.ReLU(),
]
ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=4)
HEAD = dict(num_classes=3, attention=ATTENTION)
PARTS = {
    'mmseg': {
        'EAFPNHead': dict(
            in_channels=[8] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=[4, 8, 16, 32],
            channels=8,
            **HEAD,
        ),
        'EAHead': dict(in_channels=8, channels=8, mid_channels=8, **HEAD),
        'HaloNet': {},
        'LoadSegAnnotations': {},
        'SegLabelCheckHook': {},
        'SegPictureHook': {},
    },
    'mmdet': {
        'EABFP': dict(in_channels=8, num_levels=3, attention=ATTENTION),
        'EAMaskHead': dict(in_channels=8, conv_out_channels=8, **HEAD),
        'EANeck': dict(in_channels=[8, 8], attention=ATTENTION),
        'EARetinaHead': dict(in_channels=8, **HEAD),
        'DetPictureHook': {},
        'FiniteLossHook': {},
        'LoadImage': {},
        'LocalAttentionResNet': dict(depth=26, base_channels=8),
        'SimpleFeaturePyramid': dict(in_channels=64, out_channels=32),
        'StageAttentionResNet': dict(
            depth=18, base_channels=8, attention=ATTENTION
        ),
    },
    'mmpretrain': {
        'CaaMResNet': dict(base_channels=8),
        'CaaMT2TViT': dict(embed_dims=8, num_layers=4, causal_layers=2),
        'ClsPictureHook': {},
        'EAMLP': {},
        'OffsetAttention1d': dict(in_channels=8),
        'PCT': dict(stem_channels=4),
        'PointCloudClassifier': dict(
            backbone=dict(type='mmea.PCT', stem_channels=4), num_classes=3
        ),
        'PointCloudDataPreprocessor': {},
        'PointPartSegmentor': dict(
            backbone=dict(type='mmea.PCT', stem_channels=4)
        ),
        'MisleadingScenes': dict(split='val', number=1, size=(32, 32)),
    },
}
#: What the stack's own class of the same name takes and checks.
THEIRS = {
    ('EAFPNHead', 'feature_strides'),
    ('EAHead', 'in_channels'),
    ('MisleadingScenes', 'pipeline'),
    ('PointCloudClassifier', 'data_preprocessor'),
    ('PointPartSegmentor', 'data_preprocessor'),
}


@pytest.mark.parametrize(
    ('scope', 'name'),
    [(scope, name) for scope in PARTS for name in PARTS[scope]],
)
def test_builds_or_names_the_argument(scope, name):
    pytest.importorskip(f'{scope}.models')
    __import__('mmea.models')
    __import__('mmea.caam')
    __import__('mmea.point_clouds')
    __import__('mmea.engine.hooks')
    __import__('mmea.datasets')
    init_default_scope(scope)
    cls = next(
        registry.module_dict[name]
        for registry in (MODELS, HOOKS, DATASETS, TRANSFORMS)
        if name in registry.module_dict
    )
    good = PARTS[scope][name]
    cls(**good)
    for argument, param in inspect.signature(cls).parameters.items():
        if param.kind in (param.VAR_KEYWORD, param.VAR_POSITIONAL):
            continue
        for odd in () if (name, argument) in THEIRS else ODD:
            try:
                cls(**{**good, argument: odd})
            except (TypeError, ValueError, UserError) as error:
                message = str(error)
                assert argument in message, f'{argument}={odd!r}: {message}'
                assert '\n' not in message
