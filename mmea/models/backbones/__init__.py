from .local_attention_resnet import LocalAttentionResNet
from .stage_attention import StageAttention

__all__ = ['LocalAttentionResNet', 'StageAttention']
