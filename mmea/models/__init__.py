"""Registered parts: what a config names with the prefix ``mmea.``."""

from mmea.registry import MODELS, register_missing

from .build import build_attention
from .layers import (
    CATT2d,
    CATTLayer,
    CausalAttention,
    CausalPair2d,
    CBAMGate2d,
    EfficientAttention2d,
    ELSA2d,
    ExternalAttention2d,
    HaloAttention2d,
    LinearAttention2d,
    MultiheadExternalAttention,
    NonLocal2d,
    SelfAttention2d,
    StandAloneAttention2d,
)
from .necks import EANeck

try:
    from .decode_heads import EAFPNHead, EAHead
except ImportError as error:
    EAFPNHead, EAHead = register_missing(
        MODELS, ['EAFPNHead', 'EAHead'], 'mmseg', error
    )

__all__ = [
    'CATT2d',
    'CATTLayer',
    'CBAMGate2d',
    'CausalAttention',
    'CausalPair2d',
    'EAFPNHead',
    'EAHead',
    'EANeck',
    'ELSA2d',
    'EfficientAttention2d',
    'ExternalAttention2d',
    'HaloAttention2d',
    'LinearAttention2d',
    'MultiheadExternalAttention',
    'NonLocal2d',
    'SelfAttention2d',
    'StandAloneAttention2d',
    'build_attention',
]
