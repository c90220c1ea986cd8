"""Where else the low-rank algebra could pay: beside the block, with heads.

Each case is a pair of functions that compute the same, as it is and with
one more projection multiplied into the memories.
"""

import torch
from torch import Tensor, nn

from mmea.ops import double_norm, external_attention, low_rank_block

from .blocks import SLOTS


class Surrounding:
    """A pair, 'as it is' and 'folded', for inference or training.

    Args:
        name (str): One of SURROUNDINGS.
        mode (str): 'inference' or 'training'.
        device (str): 'cpu' or 'cuda'.
        dtype (torch.dtype): Of everything. Default: float32.
    """

    def __init__(self, name, mode, device='cpu', dtype=torch.float32):
        torch.manual_seed(0)
        self.mode = mode
        pair, shape, weights = SURROUNDINGS[name]
        self.pair = pair
        self.x = torch.randn(shape, device=device, dtype=dtype)
        self.weights = [
            torch.randn(size, device=device, dtype=dtype) / size[-1] ** 0.5
            for size in weights
        ]
        if mode == 'training':
            for leaf in (self.x, *self.weights):
                leaf.requires_grad_()

    def run(self, folded: bool) -> Tensor:
        return self.pair(self.x, *self.weights, folded=folded)

    def step(self, folded: bool):
        if self.mode == 'inference':
            with torch.inference_mode():
                self.run(folded)
            return
        for leaf in (self.x, *self.weights):
            leaf.grad = None
        y = self.run(folded)
        y.backward(torch.ones_like(y))


def conv_before(x, conv, key, value, *, folded):
    """The 1x1 convolution at the end of a bottleneck, then the block.

    Its output is needed for the residual in any case; only the logits can
    come from the narrow input.
    """
    batch = len(x)
    wide = conv.expand(batch, -1, -1).bmm(x)
    if not folded:
        return low_rank_block(wide, key, value)[0]
    logits = (key @ conv).expand(batch, -1, -1).bmm(x)
    attn = double_norm(logits)
    return torch.baddbmm(wide, value.t().expand(batch, -1, -1), attn)


def classifier_after(x, key, value, classifier, *, folded):
    """The block without an activation, then a 1x1 classifier."""
    batch = len(x)
    if not folded:
        y, _ = low_rank_block(x, key, value)
        return classifier.expand(batch, -1, -1).bmm(y)
    out, _ = low_rank_block(x, key, value @ classifier.t(), residual=False)
    return torch.baddbmm(out, classifier.expand(batch, -1, -1), x)


def multi_head(x, project, key, value, out, *, folded):
    """Multi-head external attention of EAMLP: heads share the memories."""
    batch, _, tokens = x.shape
    width = key.shape[1]
    heads = len(project) // width
    if not folded:
        wide = nn.functional.linear(x.mT, project)  # (B, N, heads * width)
        wide = wide.unflatten(2, (heads, width)).permute(0, 2, 3, 1)
        y = external_attention(wide.flatten(0, 1), key, value)
        y = y.unflatten(0, (batch, heads)).flatten(1, 2)
        return nn.functional.linear(y.mT, out).mT
    keys = (key @ project.unflatten(0, (heads, width))).flatten(0, 1)
    logits = keys.expand(batch, -1, -1).bmm(x)  # (B, heads * S, N)
    attn = double_norm(logits.view(batch * heads, -1, tokens))
    values = out.unflatten(1, (heads, width)) @ value.t()  # (C, heads, S)
    values = values.flatten(1).expand(batch, -1, -1)
    return values.bmm(attn.view(batch, -1, tokens))


def _eamlp(dim, num_heads):
    width = dim // num_heads
    return (
        multi_head,
        (8, dim, 197),
        [(4 * dim, dim), (SLOTS, width), (SLOTS, width), (dim, 4 * dim)],
    )


SURROUNDINGS = {
    'conv 64 to 256 before, 128 x 128': (
        conv_before,
        (1, 64, 128**2),
        [(256, 64), (SLOTS, 256), (SLOTS, 256)],
    ),
    'conv 256 to 1024 before, 32 x 32': (
        conv_before,
        (1, 256, 32**2),
        [(1024, 256), (SLOTS, 1024), (SLOTS, 1024)],
    ),
    '150 classes after 128 channels, 128 x 128': (
        classifier_after,
        (1, 128, 128**2),
        [(SLOTS, 128), (SLOTS, 128), (150, 128)],
    ),
    '19 classes after 512 channels, 128 x 128': (
        classifier_after,
        (1, 512, 128**2),
        [(SLOTS, 512), (SLOTS, 512), (19, 512)],
    ),
    'multi-head of EAMLP-7 (256, 16 heads), 197 tokens x 8': _eamlp(256, 4),
    'multi-head of EAMLP-14 (384, 24 heads), 197 tokens x 8': _eamlp(384, 6),
    'multi-head of EAMLP-19 (448, 28 heads), 197 tokens x 8': _eamlp(448, 7),
}
