"""The attention systems as nn.Modules. torch only."""

from .attention_block2d import AttentionBlock2d
from .external_attention2d import ExternalAttention2d

__all__ = ['AttentionBlock2d', 'ExternalAttention2d']
