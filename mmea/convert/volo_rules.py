"""VOLO's names and ours, of the authors' code and of timm's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rename import under
from .rules import ELSA, NORMS_AND_MLP, OUTLOOK
from .shapes import finish_elsa, linears_to_convs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['CLASSIFIER', 'CLASS_BLOCK', 'EARLY_BLOCK', 'LATE_BLOCK', 'finish']

# ELSA's names first: its attn.0 is no attn of the other's.
EARLY_BLOCK = under('attn.', 'attn.', ELSA | OUTLOOK) | NORMS_AND_MLP
LATE_BLOCK = {
    'attn.qkv.': 'attn.qkv_proj.',
    'attn.proj.': 'attn.out_proj.',
    **NORMS_AND_MLP,
}
CLASS_BLOCK = {
    'attn.q.': 'attn.query.',
    'attn.kv.': 'attn.key_value.',
    'attn.proj.': 'attn.out.',
    **NORMS_AND_MLP,
}
_BACKBONE = {
    'patch_embed.conv.': 'stem.convs.',
    'patch_embed.proj.': 'stem.proj.',
    **under('network.0.*.', 'stages.0.*.', EARLY_BLOCK),
    'network.1.proj.': 'downsample.',
    'pos_embed': 'pos_embed',
    **{
        theirs: ours
        for i in (1, 2, 3)
        for theirs, ours in under(
            f'network.{i + 1}.*.', f'stages.{i}.*.', LATE_BLOCK
        ).items()
    },
    'cls_token': 'cls_token',
    **under('post_network.*.', 'class_blocks.*.', CLASS_BLOCK),
    'norm.': 'norm.',
}
CLASSIFIER = {
    **under('', 'backbone.', _BACKBONE),
    'head.': 'head.fc.',
    'aux_head.': 'head.aux_fc.',
}


def finish(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make the attentions on maps of 1x1 convolutions."""
    return finish_elsa(linears_to_convs(part))
