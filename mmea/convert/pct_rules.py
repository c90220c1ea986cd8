"""PCT's names and ours, of its authors' code and of PCT_Pytorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rename import under

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['ATTENTION', 'CLASSIFIER', 'SEGMENTOR', 'finish']

ATTENTION = {
    'q_conv.': 'query_proj.',
    'k_conv.': 'key_proj.',
    'v_conv.': 'value_proj.',
    'trans_conv.': 'out_proj.',
    'after_norm.': 'norm.',
}


def _norm_act(conv: str, norm: str, ours: str) -> dict[str, str]:
    return {f'{conv}.': f'{ours}.0.', f'{norm}.': f'{ours}.1.'}


def _layers(old: str) -> dict[str, str]:
    return {
        theirs: ours
        for i in range(4)
        for theirs, ours in under(
            f'{old}sa{i + 1}.', f'backbone.layers.{i}.', ATTENTION
        ).items()
    }


_BOTH = {
    **_norm_act('conv1', 'bn1', 'backbone.stem.0'),
    **_norm_act('conv2', 'bn2', 'backbone.stem.1'),
    'conv_fuse.': 'backbone.fuse.',
}
CLASSIFIER = {
    **_BOTH,
    **{
        f'gather_local_{i}.{theirs}': f'backbone.groups.{i}.{ours}'
        for i in (0, 1)
        for j in (0, 1)
        for theirs, ours in _norm_act(
            f'conv{j + 1}', f'bn{j + 1}', f'{j}'
        ).items()
    },
    **_norm_act('pt_last.conv1', 'pt_last.bn1', 'backbone.convs.0'),
    **_norm_act('pt_last.conv2', 'pt_last.bn2', 'backbone.convs.1'),
    'pt_last.conv_pos.': 'backbone.position.',
    **_layers('pt_last.'),
    'linear1.': 'head.0.',
    'bn6.': 'head.1.',
    'linear2.': 'head.4.',
    'bn7.': 'head.5.',
    'linear3.': 'head.8.',
}
SEGMENTOR = {
    **_BOTH,
    **_layers(''),
    'label_conv.': 'class_conv.',
    'convs1.': 'head.0.',
    'bns1.': 'head.1.',
    'convs2.': 'head.4.',
    'bns2.': 'head.5.',
    'convs3.': 'head.7.',
}


def finish(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the keys, whose weights are those of the queries."""
    for name in [n for n in part if n.endswith('key_proj.weight')]:
        value = part.pop(name)
        query = part.get(name.replace('key_proj', 'query_proj'))
        if query is not None and not value.equal(query):
            raise ValueError(
                "'k_conv.weight' is not 'q_conv.weight': in PCT both are one "
                'parameter, so this is another network'
            )
    return part
