"""The attention systems as nn.Modules. torch only."""

from .attention_block2d import AttentionBlock2d
from .caam_attention import CaaMAttention
from .caam_pair2d import CaaMPair2d
from .catt2d import CATT2d
from .catt_layer import CATTLayer
from .cbam_gate2d import CBAMGate2d
from .deploy import switch_to_deploy
from .efficient_attention2d import EfficientAttention2d
from .elsa2d import ELSA2d
from .external_attention2d import ExternalAttention2d
from .halo_attention2d import HaloAttention2d
from .linear_attention2d import LinearAttention2d
from .multihead_external_attention import MultiheadExternalAttention
from .non_local2d import NonLocal2d
from .offset_attention1d import OffsetAttention1d
from .outlook_attention2d import OutlookAttention2d
from .sagan_attention2d import SAGANAttention2d
from .sagan_external_attention2d import SAGANExternalAttention2d
from .self_attention2d import SelfAttention2d
from .stand_alone_attention2d import StandAloneAttention2d
from .stand_alone_stem2d import StandAloneStem2d

__all__ = [
    'AttentionBlock2d',
    'CATT2d',
    'CATTLayer',
    'CBAMGate2d',
    'CaaMAttention',
    'CaaMPair2d',
    'ELSA2d',
    'EfficientAttention2d',
    'ExternalAttention2d',
    'HaloAttention2d',
    'LinearAttention2d',
    'MultiheadExternalAttention',
    'NonLocal2d',
    'OffsetAttention1d',
    'OutlookAttention2d',
    'SAGANAttention2d',
    'SAGANExternalAttention2d',
    'SelfAttention2d',
    'StandAloneAttention2d',
    'StandAloneStem2d',
    'switch_to_deploy',
]
