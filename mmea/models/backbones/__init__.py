from .caam_resnet import CaaMResNet
from .stage_attention import StageAttention

__all__ = ['CaaMResNet', 'StageAttention']
