import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from mmea.layers._checks import check_number, check_positive, check_rates
from mmea.layers._over_tokens import OverTokens
from mmea.ops import double_norm

__all__ = ['TokensToToken']

# Kernel, stride and padding of the three splits; 4 x 2 x 2 pixels a token.
SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
STRIDE = 16


class TokensToToken(nn.Module):
    """Image to tokens of stride 16, by overlapping splits and attention.

    Each split makes one token of a window (its channels, rows and columns in
    this order) and windows overlap; after the first two a layer with external
    attention narrows the tokens, which then form a map again.

    The image is padded with zeros, at the right and at the bottom, up to
    multiples of 16: without that, 65 pixels would give 4 tokens. The tokens of
    the padding take part as others do. Where the image is a multiple already,
    this is the published module.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Channels of the tokens.
        token_dims (int): Channels between the splits. Default: 64.
        drop_rate (float): Dropout of attention and its projection. The
            published "performer" has 0.1, its "transformer" 0; they differ
            in nothing else. Default: 0.1.

    Shapes:
        (B, in_channels, H, W) to (B, h w, embed_dims), rows first, and the
        grid (h, w) = (ceil(H / 16), ceil(W / 16)).

    Source: arXiv:2101.11986, tokens-to-token module; its attention, sizes and
    initialisation from the authors' EAMLP.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        *,
        token_dims: int = 64,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            embed_dims=embed_dims,
            token_dims=token_dims,
        )
        check_rates(drop_rate=drop_rate)
        widths = [
            channels * kernel**2
            for channels, (kernel, _, _) in zip(
                (in_channels, token_dims, token_dims), SPLITS
            )
        ]
        self.layers = nn.ModuleList(
            TokenLayer(width, token_dims, drop_rate=drop_rate)
            for width in widths[:2]
        )
        self.out_proj = nn.Linear(widths[2], embed_dims)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        for (kernel, stride, padding), layer in zip(
            SPLITS, (*self.layers, self.out_proj)
        ):
            grid = x.shape[2] // stride, x.shape[3] // stride
            tokens = F.unfold(x, kernel, padding=padding, stride=stride)
            tokens = layer(tokens.transpose(-2, -1))  # (B, N, C)
            x = tokens.transpose(-2, -1).unflatten(2, grid)
        return tokens, grid


class TokenLayer(OverTokens, nn.Module):
    """A transformer layer with external attention that changes the width.

    ``u = in_proj(norm1(x)); z = u + out_proj(A(u) M_v + b_v)``, and then
    ``z + MLP(norm2(z))``: the skip begins behind the first projection.

    Args:
        in_channels (int): Channels of the tokens.
        channels (int): Of the output, and of the MLP inside.
        num_slots (int): Memory slots S. Default: 128.
        eps (float): Of the double normalisation. Default: 1e-9.
        drop_rate (float): Dropout of A and of ``out_proj``. Default: 0.

    Shapes:
        (B, N, in_channels) to (B, N, channels). Memories are (S, channels).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        num_slots: int = 128,
        eps: float = 1e-9,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels, channels=channels, num_slots=num_slots
        )
        check_number(0, eps=eps)
        check_rates(drop_rate=drop_rate)
        self.eps = eps
        self.norm1 = nn.LayerNorm(in_channels)
        self.in_proj = nn.Linear(in_channels, channels)
        self.key_memory = nn.Parameter(torch.empty(num_slots, channels))
        self.value_memory = nn.Parameter(torch.empty(num_slots, channels))
        self.value_bias = nn.Parameter(torch.empty(channels))
        self.attn_drop = nn.Dropout(drop_rate)
        self.out_proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop_rate)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FFN(channels, channels, act_cfg=dict(type='GELU'))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Of the memories: two that start alike, as published."""
        nn.init.trunc_normal_(self.key_memory, std=0.02)
        with torch.no_grad():
            self.value_memory.copy_(self.key_memory)
        nn.init.zeros_(self.value_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_proj(self.norm1(x))
        logits = F.linear(x, self.key_memory).transpose(-2, -1)  # (B, S, N)
        attn = double_norm(logits, eps=self.eps, stats=self.stats_source())
        attn = self.attn_drop(attn)
        out = F.linear(
            attn.transpose(-2, -1), self.value_memory.t(), self.value_bias
        )
        x = x + self.proj_drop(self.out_proj(out))
        return self.ffn(self.norm2(x), identity=x)
