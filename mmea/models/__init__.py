"""Registered parts: what a config names with the prefix ``mmea.``."""

from mmea.registry import MODELS, register_missing

from .backbones import (
    EAMLP,
    VOLO,
    ELSASwin,
    HaloNet,
    LocalAttentionResNet,
    StageAttentionResNet,
)
from .build_attention import build_attention
from .cls_heads import VOLOHead
from .necks import EANeck, SimpleFeaturePyramid
from .registered_layers import (
    CaaMAttention,
    CaaMPair2d,
    CATT2d,
    CATTLayer,
    CBAMGate2d,
    EfficientAttention2d,
    ELSA2d,
    ExternalAttention2d,
    HaloAttention2d,
    LinearAttention2d,
    MultiheadExternalAttention,
    NonLocal2d,
    OffsetAttention1d,
    OutlookAttention2d,
    SAGANAttention2d,
    SAGANExternalAttention2d,
    SelfAttention2d,
    StandAloneAttention2d,
    StandAloneStem2d,
)

try:
    from .data_preprocessors.seg_data_preprocessor import SegDataPreProcessor
    from .decode_heads import EAFPNHead, EAHead
    from .segmentors import EncoderDecoder
except ImportError as error:
    EAFPNHead, EAHead, EncoderDecoder, SegDataPreProcessor = register_missing(  # type: ignore[misc, assignment]
        MODELS,
        ['EAFPNHead', 'EAHead', 'EncoderDecoder', 'SegDataPreProcessor'],
        'mmseg',
        error,
    )

try:
    from .data_preprocessors.det_data_preprocessor import DetDataPreprocessor
    from .dense_heads.ea_retina_head import EARetinaHead
    from .necks.ea_bfp import EABFP
    from .roi_heads.ea_mask_head import EAMaskHead
except ImportError as error:
    DetDataPreprocessor, EABFP, EAMaskHead, EARetinaHead = register_missing(  # type: ignore[misc, assignment]
        MODELS,
        ['DetDataPreprocessor', 'EABFP', 'EAMaskHead', 'EARetinaHead'],
        'mmdet',
        error,
    )

__all__ = [
    'CATT2d',
    'CATTLayer',
    'CBAMGate2d',
    'CaaMAttention',
    'CaaMPair2d',
    'DetDataPreprocessor',
    'EABFP',
    'EAFPNHead',
    'EAHead',
    'EAMLP',
    'EAMaskHead',
    'EANeck',
    'EARetinaHead',
    'ELSA2d',
    'ELSASwin',
    'EfficientAttention2d',
    'EncoderDecoder',
    'ExternalAttention2d',
    'HaloAttention2d',
    'HaloNet',
    'LinearAttention2d',
    'LocalAttentionResNet',
    'MultiheadExternalAttention',
    'NonLocal2d',
    'OffsetAttention1d',
    'OutlookAttention2d',
    'SAGANAttention2d',
    'SAGANExternalAttention2d',
    'SegDataPreProcessor',
    'SelfAttention2d',
    'SimpleFeaturePyramid',
    'StageAttentionResNet',
    'StandAloneAttention2d',
    'StandAloneStem2d',
    'VOLO',
    'VOLOHead',
    'build_attention',
]
