from .eamlp import EAMLP
from .elsa_swin import ELSASwin
from .halonet import HaloNet
from .local_attention_resnet import LocalAttentionResNet
from .stage_attention_resnet import StageAttentionResNet
from .volo import VOLO

__all__ = [
    'EAMLP',
    'ELSASwin',
    'HaloNet',
    'LocalAttentionResNet',
    'StageAttentionResNet',
    'VOLO',
]
