"""Names of published parts and ours, as :mod:`.rename` reads them."""

from .rename import under

EANET_BLOCK = {
    'conv1.': 'in_proj.',
    'linear_0.weight': 'key_memory',
    'linear_1.weight': 'value_memory',
    'conv2.0.': 'out_proj.',
    'conv2.1.': 'norm.',
}
EA_CORE = {'mk.weight': 'key_memory', 'mv.weight': 'value_memory'}
EANET_HEAD = {
    'fc0.': 'conv_in.',
    'fc1.0.': 'conv_out.',
    'fc2.': 'conv_seg.',
    **under('linu.', 'attention.', EANET_BLOCK),
}
EANET = {
    # The deep stem: three convolutions in extractor.0, its last norm apart.
    'extractor.0.': 'backbone.stem.',
    'extractor.1.': 'backbone.stem.7.',
    **{f'extractor.{i + 3}.': f'backbone.layer{i}.' for i in range(1, 5)},
    **under('', 'decode_head.', EANET_HEAD),
}

# mmcv names a norm by its kind; with sub_sample a pooling layer follows g and
# phi in a Sequential.
NON_LOCAL = {
    'theta.conv.': 'query_proj.',
    'phi.conv.': 'key_proj.',
    'phi.0.conv.': 'key_proj.',
    'g.conv.': 'value_proj.',
    'g.0.conv.': 'value_proj.',
    'concat_project.conv.weight': 'pair_weight',
    'conv_out.conv.': 'out_proj.',
    **{f'conv_out.{kind}.': 'norm.' for kind in ('bn', 'gn', 'in', 'ln')},
}
EFFICIENT = {
    'queries.': 'query_proj.',
    'keys.': 'key_proj.',
    'values.': 'value_proj.',
    'reprojection.': 'out_proj.',
}
QKV_CONV = {
    f'{part}_conv.': f'{part}_proj.' for part in ('query', 'key', 'value')
}
LINEAR = {'gamma': 'out_proj.gamma', **QKV_CONV}
STAND_ALONE = {'rel_h': 'row_tables', 'rel_w': 'column_tables', **QKV_CONV}
# Keys and values, one layer there, are put apart by what is in shapes.py.
HALONET = {
    'to_q.': 'query_proj.',
    'to_kv.': 'kv_proj.',
    'to_out.': 'out_proj.',
    'rel_pos_emb.rel_height': 'row_table',
    'rel_pos_emb.rel_width': 'column_table',
}
TIMM_HALO = {
    'q.': 'query_proj.',
    'kv.': 'kv_proj.',
    'pos_embed.height_rel': 'row_table',
    'pos_embed.width_rel': 'column_table',
}
ELSA = {
    'pre_proj.': 'qkv_proj.',
    'attn.0.': 'attn_conv.',
    'attn.2.': 'attn_proj.',
    'ghost_head': 'ghost_head',
    'post_proj.': 'out_proj.',
}

OUTLOOK = {'v.': 'value_proj.', 'attn.': 'attn_proj.', 'proj.': 'out_proj.'}

# A transformer layer beside its attention.
NORMS_AND_MLP = {
    'norm1.': 'norm1.',
    'norm2.': 'norm2.',
    'mlp.fc1.': 'ffn.layers.0.0.',
    'mlp.fc2.': 'ffn.layers.1.',
}
_WINDOWS = {
    'pre_proj.': 'qkv.',
    'post_proj.': 'proj.',
    'rb': 'relative_position_bias_table',
    'relative_id': 'relative_position_index',
}
_ELSA_ATTENTION = [under('attn.', 'attn.elsa.', ELSA)] * 3
ELSA_SWIN = {
    'patch_embed.proj.': 'patch_embed.projection.',
    'patch_embed.norm.': 'patch_embed.norm.',
    **{
        old: new
        for i, attention in enumerate(
            [*_ELSA_ATTENTION, under('attn.', 'attn.w_msa.', _WINDOWS)]
        )
        for old, new in under(
            f'layers.{i}.blocks.*.',
            f'stages.{i}.blocks.*.',
            attention | NORMS_AND_MLP,
        ).items()
    },
    'layers.*.downsample.': 'stages.*.downsample.',
    **{f'norm{i}.': f'norm{i}.' for i in range(4)},
}
ELSA_SWIN_CLASSIFIER = {
    **under('', 'backbone.', ELSA_SWIN),
    'norm.': 'backbone.norm3.',
    'head.': 'head.fc.',
}

MULTIHEAD = {
    'trans_dims.': 'in_proj.',
    'linear_0.weight': 'key_memory',
    'linear_0.bias': 'key_bias',
    'linear_1.weight': 'value_memory',
    'linear_1.bias': 'value_bias',
    'proj.': 'out_proj.',
}
EAMLP_BLOCK = under('attn.', 'attn.', MULTIHEAD) | NORMS_AND_MLP


def eamlp_token_layer(key: int) -> dict[str, str]:
    """Rules of a token layer, whose memories count from 0 or from 1."""
    return {
        'attn.q_linear.': 'in_proj.',
        f'attn.linear_{key}.weight': 'key_memory',
        f'attn.linear_{key + 1}.weight': 'value_memory',
        f'attn.linear_{key + 1}.bias': 'value_bias',
        'attn.proj.': 'out_proj.',
        **NORMS_AND_MLP,
    }


def eamlp(key: int) -> dict[str, str]:
    """Rules of the whole net with such token layers."""
    tokens = {'project.': 'out_proj.'}
    for i in (0, 1):
        layer = eamlp_token_layer(key)
        tokens |= under(f'attention{i + 1}.', f'layers.{i}.', layer)
    backbone = {
        'cls_token': 'cls_token',
        'pos_embed': 'pos_embed',
        'norm.': 'norm.',
        **under('tokens_to_token.', 'tokens_to_token.', tokens),
        **under('blocks.*.', 'blocks.*.', EAMLP_BLOCK),
    }
    return {**under('', 'backbone.', backbone), 'head.': 'head.fc.'}


CAAM_CBAM = {
    'ChannelGate.mlp.1.': 'channel_fc1.',
    'ChannelGate.mlp.3.': 'channel_fc2.',
    'SpatialGate.spatial.conv.weight': 'token_conv.weight',
    'SpatialGate.spatial.bn.': 'token_norm.',
}
CAAM_ATTENTION = {'qkv.': 'qkv_proj.', 'proj.': 'out_proj.'}
CAAM_BLOCK = {
    'conv*.': 'conv*.',
    'bn*.': 'bn*.',
    'downsample.': 'downsample.',
    **under('cbam.', 'pair.gate.', CAAM_CBAM),
}
CAAM_RESNET = {
    'conv1.': 'conv1.',
    'bn1.': 'bn1.',
    **under('layer*.*.', 'layer*.*.', CAAM_BLOCK),
}
CAAM_TRANSFORMER = under('attn.', 'attn.', CAAM_ATTENTION) | NORMS_AND_MLP


def _catt_path(attention: str, prefix: str, path: str) -> dict[str, str]:
    """Rules of a path: its attention, what is before the other names."""
    rules = {
        f'{attention}.{part}.': f'{part}_proj.'
        for part in ('query', 'key', 'value')
    }
    rules |= under(
        prefix,
        '',
        {
            'attention.output.dense.': 'attn_proj.',
            'attention.output.LayerNorm.': 'attn_norm.',
            'intermediate.dense.': 'fc1.',
            'output.dense.': 'fc2.',
            'output.LayerNorm.': 'norm.',
        },
    )
    return under('', f'{path}.', rules)


CATT_FT = {
    **_catt_path('attention.self', '', 'in_path'),
    **_catt_path('FTattention.att', 'FT', 'cross_path'),
}
CATT_SAME = _catt_path('attention.att', '', 'cross_path')
CATT_FUSED = {**under('layer.', 'layer.', CATT_SAME), 'fc.': 'out_proj.'}

# Backbones of classifiers: what they become is mmpretrain's ImageClassifier.
RESNET = {
    'fc.': 'head.fc.',
    **under(
        '',
        'backbone.',
        {
            'conv1.weight': 'conv1.weight',
            'bn1.': 'bn1.',
            'layer*.*.conv*.': 'layer*.*.conv*.',
            'layer*.*.bn*.': 'layer*.*.bn*.',
            'layer*.*.downsample.*.': 'layer*.*.downsample.*.',
        },
    ),
}
# A stem of three convolutions, its last norm apart, as EANet's.
TIMM_RESNET_D = {
    **RESNET,
    'conv1.*.': 'backbone.stem.*.',
    'bn1.': 'backbone.stem.7.',
}

# The convolutions of a block of MobileNetV2, each with a norm. The first
# block has no expansion.
_MMSEG = [('conv.0.', 'conv.1.'), ('conv.0.', 'conv.1.', 'conv.2.')]
_MMDET = [
    ('depthwise_conv.', 'linear_conv.'),
    ('expand_conv.', 'depthwise_conv.', 'linear_conv.'),
]
_TORCHVISION = [
    (('conv.0.0.', 'conv.0.1.'), ('conv.1.', 'conv.2.')),
    (
        ('conv.0.0.', 'conv.0.1.'),
        ('conv.1.0.', 'conv.1.1.'),
        ('conv.2.', 'conv.3.'),
    ),
]
_TIMM = [
    (('conv_dw.', 'bn1.'), ('conv_pw.', 'bn2.')),
    (('conv_pw.', 'bn1.'), ('conv_dw.', 'bn2.'), ('conv_pwl.', 'bn3.')),
]


def mobilenet_v2(*, timm: bool, mmdet: bool = False) -> dict[str, str]:
    """Rules of torchvision's or timm's net, for mmdet's or the others'."""
    convs = {'backbone.conv1.': ('features.0.0.', 'features.0.1.')}
    convs['backbone.conv2.'] = ('features.18.0.', 'features.18.1.')
    if timm:
        convs['backbone.conv1.'] = ('conv_stem.', 'bn1.')
        convs['backbone.conv2.'] = ('conv_head.', 'bn2.')
    number = 0
    for stage, length in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(length):
            number += 1
            old = f'blocks.{stage}.{block}.' if timm else f'features.{number}.'
            new = f'backbone.layer{stage + 1}.{block}.'
            theirs = (_TIMM if timm else _TORCHVISION)[number > 1]
            ours = (_MMDET if mmdet else _MMSEG)[number > 1]
            for name, (conv, norm) in zip(ours, theirs):
                convs[new + name] = (old + conv, old + norm)
    rules = {'classifier.' if timm else 'classifier.1.': 'head.fc.'}
    for name, (conv, norm) in convs.items():
        rules |= {conv: f'{name}conv.', norm: f'{name}bn.'}
    return rules
