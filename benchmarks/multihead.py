"""Multi-head external attention against self-attention, over tokens.

Both have heads of 64 channels, as EAMLP has, their projections and a
residual. With its fourfold expansion external attention multiplies more than
self-attention where tokens are few. And EAMLP as a whole against transformers
of its width, depth, heads and MLP: a ViT, and one with EAMLP's stem, T2T-ViT.
"""

import torch

from mmea.layers import (
    MultiheadExternalAttention,
    SelfAttention2d,
    switch_to_deploy,
)
from mmea.profiling import Step

WIDTHS = (256, 384)
# Of maps 14 x 14, 24 x 24, 32 x 32, 48 x 48, 64 x 64 and 96 x 96.
TOKENS = (196, 576, 1024, 2304, 4096, 9216)
SELF = 'self-attention'
DEPLOYED = 'external, expansion 4, deployed'
VIT = 'ViT'
IMAGES = 8  # of a network, 224 x 224
NETWORKS = 'EAMLP-7', 'EAMLP-14'
NETWORK_KINDS = 'EAMLP', 'EAMLP, deployed', VIT, 'T2T-ViT'


def _external(expansion):
    return lambda width: MultiheadExternalAttention(
        width, width // 64, expansion=expansion, batch_first=True
    )


KINDS = {
    'external, expansion 4': _external(4),
    DEPLOYED: _external(4),
    'external, expansion 1': _external(1),
    SELF: lambda width: SelfAttention2d(width, num_heads=width // 64),
}


def make_step(kind, size, mode, device, dtype) -> Step | None:
    """Make the step of a layer; its size is such as '256 x 1024'.

    None where it has no such mode.
    """
    if kind == DEPLOYED and mode != 'inference':
        return None
    torch.manual_seed(0)
    width, tokens = map(int, size.split(' x '))
    shape = 1, tokens, width
    if kind == SELF:  # takes a map: here of one column
        shape = 1, width, tokens, 1
    x = torch.randn(shape, device=device)
    layer = KINDS[kind](width).to(device)
    if kind == DEPLOYED:
        layer.switch_to_deploy()
    return Step(layer, x, mode=mode, dtype=dtype)


def make_network_step(kind, name, mode, device, dtype) -> Step | None:
    """Make the step of a network of the sizes of an EAMLP."""
    from mmpretrain.models.backbones import T2T_ViT, VisionTransformer

    from mmea.models import EAMLP
    from mmea.models.backbones.eamlp import ARCHS

    if 'deployed' in kind and mode != 'inference':
        return None
    torch.manual_seed(0)
    arch = name.partition('-')[2]
    sizes = ARCHS[arch]
    if kind == VIT:
        net = VisionTransformer(sizes)
    elif kind == 'T2T-ViT':
        # Its options of a layer are those of EAMLP's architecture.
        layer = dict(sizes)
        width, depth = layer.pop('embed_dims'), layer.pop('num_layers')
        net = T2T_ViT(embed_dims=width, num_layers=depth, layer_cfgs=layer)
    else:
        net = EAMLP(arch, out_type='cls_token')
    if 'deployed' in kind:
        switch_to_deploy(net)
    x = torch.randn(IMAGES, 3, 224, 224, device=device)

    def run(x):  # no gradient of the images
        return net(x.detach())[0]

    return Step(net.to(device), x, mode=mode, dtype=dtype, run=run)
