"""Published state-dict names to ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ['SOURCES', 'Source', 'convert', 'list_sources']

# Each rule: a pattern for the whole published name, and ours. A memory is a
# 1x1 Conv1d there, (out, in, 1); here it is (S, C).
_BLOCK = (
    (r'conv1\.(.*)', r'in_proj.\1'),
    (r'linear_0\.weight', 'key_memory'),
    (r'linear_1\.weight', 'value_memory'),
    (r'conv2\.0\.(.*)', r'out_proj.\1'),
    (r'conv2\.1\.(.*)', r'norm.\1'),
)
_CORE = (
    (r'mk\.weight', 'key_memory'),
    (r'mv\.weight', 'value_memory'),
)
_HEAD = (
    (r'fc0\.(.*)', r'conv_in.\1'),
    (r'fc1\.0\.(.*)', r'conv_out.\1'),
    (r'fc2\.(.*)', r'conv_seg.\1'),
    *((r'linu\.' + old, 'attention.' + new) for old, new in _BLOCK),
)
_NET = (
    # The deep stem: three convolutions in extractor.0, its last norm apart.
    (r'extractor\.0\.(.*)', r'backbone.stem.\1'),
    (r'extractor\.1\.(.*)', r'backbone.stem.7.\1'),
    *(
        (rf'extractor\.{i + 3}\.(.*)', rf'backbone.layer{i}.\1')
        for i in range(1, 5)
    ),
    *((old, 'decode_head.' + new) for old, new in _HEAD),
)
# mmcv names a norm by its kind; with sub_sample a pooling layer follows g and
# phi in a Sequential.
_NON_LOCAL = (
    (r'theta\.conv\.(.*)', r'query_proj.\1'),
    (r'phi\.(?:0\.)?conv\.(.*)', r'key_proj.\1'),
    (r'g\.(?:0\.)?conv\.(.*)', r'value_proj.\1'),
    (r'concat_project\.conv\.weight', 'pair_weight'),
    (r'conv_out\.conv\.(.*)', r'out_proj.\1'),
    (r'conv_out\.(?:bn|gn|in|ln)\.(.*)', r'norm.\1'),
)
_EFFICIENT = (
    (r'queries\.(.*)', r'query_proj.\1'),
    (r'keys\.(.*)', r'key_proj.\1'),
    (r'values\.(.*)', r'value_proj.\1'),
    (r'reprojection\.(.*)', r'out_proj.\1'),
)
_LINEAR = (
    (r'gamma', 'out_proj.gamma'),
    (r'(query|key|value)_conv\.(.*)', r'\1_proj.\2'),
)
# Tables of all heads, (D / 2, K) or, channel by channel, with axes of size 1.
_STAND_ALONE = (
    (r'(query|key|value)_conv\.weight', r'\1_proj.weight'),
    (r'rel_h', 'row_tables'),
    (r'rel_w', 'column_tables'),
)
# Keys and values are first put apart, and linear layers made 1x1
# convolutions, by _prepare_halonet.
_HALONET = (
    (r'to_q\.weight', 'query_proj.weight'),
    (r'to_k\.weight', 'key_proj.weight'),
    (r'to_v\.weight', 'value_proj.weight'),
    (r'to_out\.(.*)', r'out_proj.\1'),
    (r'rel_pos_emb\.rel_height', 'row_table'),
    (r'rel_pos_emb\.rel_width', 'column_table'),
)
_TIMM_HALO = (
    (r'q\.(.*)', r'query_proj.\1'),
    (r'k\.(.*)', r'key_proj.\1'),
    (r'v\.(.*)', r'value_proj.\1'),
    (r'pos_embed\.height_rel', 'row_table'),
    (r'pos_embed\.width_rel', 'column_table'),
)
_ELSA = (
    (r'pre_proj\.(.*)', r'qkv_proj.\1'),
    (r'attn\.0\.(.*)', r'attn_conv.\1'),
    (r'attn\.2\.(.*)', r'attn_proj.\1'),
    (r'ghost_head', 'ghost_head'),
    (r'post_proj\.(.*)', r'out_proj.\1'),
)
_MULTIHEAD = (
    (r'trans_dims\.(.*)', r'in_proj.\1'),
    (r'linear_0\.weight', 'key_memory'),
    (r'linear_0\.bias', 'key_bias'),
    (r'linear_1\.weight', 'value_memory'),
    (r'linear_1\.bias', 'value_bias'),
    (r'proj\.(.*)', r'out_proj.\1'),
)


def _under(old: str, new: str, rules):
    """The rules of a part, behind the prefix of its place."""
    groups = re.compile(old).groups

    def later(match):  # a group of the part comes after those of the prefix
        return f'\\{int(match[1]) + groups}'

    return tuple(
        (old + theirs, new + re.sub(r'\\(\d)', later, ours))
        for theirs, ours in rules
    )


_NORMS_AND_MLP = (
    (r'(norm[12])\.(.*)', r'\1.\2'),
    (r'mlp\.fc1\.(.*)', r'ffn.layers.0.0.\1'),
    (r'mlp\.fc2\.(.*)', r'ffn.layers.1.\1'),
)
_EAMLP_BLOCK = (*_under(r'attn\.', 'attn.', _MULTIHEAD), *_NORMS_AND_MLP)


# The memories of the tokens-to-token module are numbered from 0 or from 1.
def _token_layer(key: int):
    return (
        (r'attn\.q_linear\.(.*)', r'in_proj.\1'),
        (rf'attn\.linear_{key}\.weight', 'key_memory'),
        (rf'attn\.linear_{key + 1}\.weight', 'value_memory'),
        (rf'attn\.linear_{key + 1}\.bias', 'value_bias'),
        (r'attn\.proj\.(.*)', r'out_proj.\1'),
        *_NORMS_AND_MLP,
    )


def _eamlp(key: int):
    return (
        (r'(cls_token|pos_embed)', r'backbone.\1'),
        *(
            rule
            for i in (0, 1)
            for rule in _under(
                rf'tokens_to_token\.attention{i + 1}\.',
                f'backbone.tokens_to_token.layers.{i}.',
                _token_layer(key),
            )
        ),
        (
            r'tokens_to_token\.project\.(.*)',
            r'backbone.tokens_to_token.out_proj.\1',
        ),
        *_under(r'blocks\.(\d+)\.', r'backbone.blocks.\1.', _EAMLP_BLOCK),
        (r'norm\.(.*)', r'backbone.norm.\1'),
        (r'head\.(.*)', r'head.fc.\1'),
    )


_CBAM = (
    (r'ChannelGate\.mlp\.1\.(.*)', r'channel_fc1.\1'),
    (r'ChannelGate\.mlp\.3\.(.*)', r'channel_fc2.\1'),
    (r'SpatialGate\.spatial\.conv\.weight', 'token_conv.weight'),
    (r'SpatialGate\.spatial\.bn\.(.*)', r'token_norm.\1'),
)
_CAUSAL = (
    (r'qkv\.(.*)', r'qkv_proj.\1'),
    (r'proj\.(.*)', r'out_proj.\1'),
)
_CAAM_BLOCK = (
    (r'((?:conv|bn|downsample).*)', r'\1'),
    *_under(r'cbam\.', 'pair.gate.', _CBAM),
)
_CAAM_NET = (
    (r'((?:conv|bn)1\..*)', r'\1'),
    *_under(r'(layer\d\.\d+)\.', r'\1.', _CAAM_BLOCK),
)
_CAAM_TRANSFORMER = (*_under(r'attn\.', 'attn.', _CAUSAL), *_NORMS_AND_MLP)


# One path: where its attention is, what comes before the other names, and the
# path here.
def _catt_path(attention: str, prefix: str, path: str):
    return (
        (
            rf'{attention}\.(query|key|value)\.(.*)',
            rf'{path}.\1_proj.\2',
        ),
        (rf'{prefix}attention\.output\.dense\.(.*)', rf'{path}.attn_proj.\1'),
        (
            rf'{prefix}attention\.output\.LayerNorm\.(.*)',
            rf'{path}.attn_norm.\1',
        ),
        (rf'{prefix}intermediate\.dense\.(.*)', rf'{path}.fc1.\1'),
        (rf'{prefix}output\.dense\.(.*)', rf'{path}.fc2.\1'),
        (rf'{prefix}output\.LayerNorm\.(.*)', rf'{path}.norm.\1'),
    )


_CATT_FT = (
    *_catt_path(r'attention\.self', '', 'in_path'),
    *_catt_path(r'FTattention\.att', 'FT', 'cross_path'),
)
_CATT_SAME = _catt_path(r'attention\.att', '', 'cross_path')
_CATT_FUSED = (
    *((r'layer\.' + old, 'layer.' + new) for old, new in _CATT_SAME),
    (r'fc\.(.*)', r'out_proj.\1'),
)


def _prepare_halonet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All keys, then all values, in one linear layer."""
    new = {}
    for name, value in state.items():
        if name.endswith('.weight'):
            value = value[:, :, None, None]
        if name == 'to_kv.weight':
            new['to_k.weight'], new['to_v.weight'] = value.chunk(2)
        else:
            new[name] = value
    return new


def _prepare_timm_halo(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys and values of each head in turn, in one convolution."""
    new = {}
    for name, value in state.items():
        if not name.startswith('kv.'):
            new[name] = value
            continue
        if not {'q.weight', 'pos_embed.height_rel'} <= state.keys():
            raise ValueError(
                f'{name!r} holds the keys and values of each head in turn; to '
                "tell the heads, 'q.weight' and 'pos_embed.height_rel' must "
                'be there too'
            )
        width = state['pos_embed.height_rel'].shape[1]
        heads = len(state['q.weight']) // width
        value = value.unflatten(0, (heads, -1))
        kind = name.removeprefix('kv.')
        new[f'k.{kind}'] = value[:, :width].flatten(0, 1)
        new[f'v.{kind}'] = value[:, width:].flatten(0, 1)
    return new


def _prepare_elsa(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A linear layer; two ghost heads with an axis of size 1 more."""
    new = dict(state)
    if 'post_proj.weight' in new:
        new['post_proj.weight'] = new['post_proj.weight'][:, :, None, None]
    if 'ghost_head' in new and new['ghost_head'].dim() == 5:
        new['ghost_head'] = new['ghost_head'].squeeze(1)
    return new


def _prepare_fusion(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A linear layer."""
    new = dict(state)
    if 'fc.weight' in new:
        new['fc.weight'] = new['fc.weight'][:, :, None, None]
    return new


class Source(NamedTuple):
    """A published state_dict: how to rename it, what it is and becomes."""

    rules: tuple[tuple[str, str], ...]
    origin: str
    target: str
    prepare: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None


# Markdown, as docs/checkpoints.md and the command show it.
#: What :func:`convert` knows, by name.
SOURCES = {
    'eanet': Source(
        _NET,
        "the whole EANet of the authors' segmentation code",
        'the model of `configs/eanet/*voc12aug*`',
    ),
    'eanet_head': Source(_HEAD, 'EANet without its backbone', '`EAHead`'),
    'eanet_block': Source(
        _BLOCK,
        "EANet's attention block",
        '`ExternalAttention2d`, with a batch norm',
    ),
    'ea_core': Source(
        _CORE, 'two memories `mk`, `mv`', '`key_memory`, `value_memory`'
    ),
    'non_local': Source(_NON_LOCAL, "mmcv's `NonLocal2d`", '`NonLocal2d`'),
    'efficient_attention': Source(
        _EFFICIENT,
        "the authors' `EfficientAttention`",
        '`EfficientAttention2d`',
    ),
    'linear_attention': Source(
        _LINEAR,
        "the authors' `PositionLinearAttention`, `ChannelLinearAttention`",
        '`LinearAttention2d` in that `mode`, with `compat=True`',
    ),
    'stand_alone_attention': Source(
        _STAND_ALONE,
        "leaderj1001's `AttentionConv`",
        '`StandAloneAttention2d`, with `channelwise=True`',
    ),
    'halonet': Source(
        _HALONET,
        "lucidrains' `HaloAttention`",
        '`HaloAttention2d`',
        _prepare_halonet,
    ),
    'timm_halo': Source(
        _TIMM_HALO,
        "timm's `HaloAttn`",
        '`HaloAttention2d`, with `masked=False, project=False, '
        'scale_position=False`',
        _prepare_timm_halo,
    ),
    'elsa': Source(_ELSA, "the authors' `ELSA`", '`ELSA2d`', _prepare_elsa),
    'eamlp_attention': Source(
        _MULTIHEAD,
        "the attention of EAMLP's blocks",
        '`MultiheadExternalAttention`',
    ),
    'eamlp_block': Source(
        _EAMLP_BLOCK, 'a block of EAMLP', "a block of `EAMLP`'s"
    ),
    'eamlp_token_performer': Source(
        _token_layer(0),
        "a layer of EAMLP's tokens-to-token module, of the published nets",
        "that of `EAMLP`'s",
    ),
    'eamlp_token_transformer': Source(
        _token_layer(1), 'the same of the other kind', "that of `EAMLP`'s"
    ),
    'eamlp_performer': Source(
        _eamlp(0),
        'the whole EAMLP with tokens of this kind, as published',
        "mmpretrain's `ImageClassifier` with an `EAMLP` and a `LinearClsHead`",
    ),
    'eamlp_transformer': Source(
        _eamlp(1), 'the same with tokens of the other kind', 'the same'
    ),
    'caam_cbam': Source(_CBAM, "CaaM's `CBAM`", '`CBAMGate2d`'),
    'caam_attention': Source(
        _CAUSAL, "CaaM's `Attention_ours`", '`CaaMAttention`'
    ),
    'caam_block': Source(_CAAM_BLOCK, "CaaM's `BasicBlock`", '`CaaMBlock`'),
    'caam_resnet': Source(
        _CAAM_NET, "CaaM's `ResNet`, without a classifier", '`CaaMResNet`'
    ),
    'caam_transformer_block': Source(
        _CAAM_TRANSFORMER, "CaaM's `Block_ours`", '`CaaMTransformerBlock`'
    ),
    'catt_ft': Source(
        _CATT_FT,
        '`BertLayer` of LXMERT + CATT, of this type',
        '`CATTLayer`',
    ),
    'catt_ft_same': Source(
        _CATT_SAME, 'the same of this type', '`CATTLayer`, with `shared=True`'
    ),
    'catt_ft_same_fused': Source(
        _CATT_FUSED,
        'the latter as `layer`, with a fusion `fc`',
        '`CATT2d`',
        _prepare_fusion,
    ),
}


def list_sources() -> str:
    """List :data:`SOURCES` as a table in Markdown."""
    rows = [('source', 'from', 'to'), ('---', '---', '---')]
    rows += [(f'`{k}`', s.origin, s.target) for k, s in SOURCES.items()]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def convert(
    state_dict: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Rename and reshape a published state_dict.

    Args:
        state_dict (Mapping[str, Tensor]): Under its published names; a
            ``module.`` prefix of DataParallel is dropped.
        source (str): What it is, a key of :data:`SOURCES`; those tell too
            which layer or net takes the result, and with which arguments.

    Returns:
        dict[str, Tensor]: Under our names. Memories are (S, C),
        ``pair_weight`` is (2, C'), tables are as the layer has them.

    Raises:
        ValueError: An unknown ``source``, or a name that it does not have.
    """
    if source not in SOURCES:
        raise ValueError(
            f'{source=} is unknown; choose from {", ".join(SOURCES)}'
        )
    state = {
        name.removeprefix('module.'): value
        for name, value in state_dict.items()
    }
    found = SOURCES[source]
    if found.prepare:
        state = found.prepare(state)
    converted = {}
    for name, value in state.items():
        new = _rename(name, found.rules)
        if new is None:
            raise ValueError(
                f'{name!r} is no name of {source!r}; choose another source '
                f'({", ".join(SOURCES)}) or remove the entry'
            )
        if new.endswith('key_memory'):
            value = value.reshape(value.shape[:2])
        elif new.endswith('value_memory'):
            value = value.reshape(value.shape[:2]).t().contiguous()
        elif new.endswith('pair_weight'):
            value = value.reshape(2, -1)
        elif new.endswith('_tables') and value.dim() != 3:
            value = value.reshape(1, len(value), -1)
        elif new.endswith('num_batches_tracked'):
            value = value.reshape(())
        converted[new] = value
    return converted


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for old, new in rules:
        if match := re.fullmatch(old, name):
            return match.expand(new)
    return None
