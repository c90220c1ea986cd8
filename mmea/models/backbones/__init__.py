from .stage_attention import StageAttention

__all__ = ['StageAttention']
