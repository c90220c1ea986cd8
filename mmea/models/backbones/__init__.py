from .eamlp import EAMLP
from .stage_attention import StageAttention

__all__ = ['EAMLP', 'StageAttention']
