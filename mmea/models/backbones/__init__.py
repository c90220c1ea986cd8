from .caam_resnet import CaaMResNet
from .caam_t2t_vit import CaaMT2TViT
from .eamlp import EAMLP
from .elsa_swin import ELSASwin
from .halonet import HaloNet
from .local_attention_resnet import LocalAttentionResNet
from .stage_attention import StageAttention

__all__ = [
    'CaaMResNet',
    'CaaMT2TViT',
    'EAMLP',
    'ELSASwin',
    'HaloNet',
    'LocalAttentionResNet',
    'StageAttention',
]
