import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from mmea.ops import dot_product_attention

__all__ = ['ClassBlock', 'MapBlock', 'PatchStem', 'init_linear', 'pad']


class PatchStem(nn.Module):
    """Three convolutions, norm and ReLU behind each, and a patch of 4 x 4.

    Args:
        in_channels (int): Channels of the image.
        stem_channels (int): Channels of the convolutions.
        embed_dims (int): Channels C of the tokens.
        norm_cfg (dict): Of the norms.

    Shapes:
        (B, in_channels, H, W) to (B, C, ceil(H / 8), ceil(W / 8)).
    """

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        embed_dims: int,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, stride in ((7, 2), (3, 1), (3, 1)):
            layers += [
                nn.Conv2d(
                    in_channels,
                    stem_channels,
                    kernel,
                    stride,
                    padding=kernel // 2,
                    bias=False,
                ),
                build_norm_layer(norm_cfg, stem_channels)[1],
                nn.ReLU(inplace=True),
            ]
            in_channels = stem_channels
        self.convs = nn.Sequential(*layers)
        self.proj = nn.Conv2d(stem_channels, embed_dims, 4, stride=4)

    def reset_parameters(self) -> None:
        for part in (*self.convs, self.proj):
            if not isinstance(part, nn.ReLU):
                part.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(pad(self.convs(x), 4))


def pad(x: Tensor, size: int) -> Tensor:
    """Pad a map with zeros, right and bottom, to multiples of ``size``."""
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % size, 0, -height % size))


def init_linear(module: nn.Linear | nn.Conv2d) -> None:
    """Initialise a linear layer, or the convolution that stands for one."""
    nn.init.trunc_normal_(module.weight, std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class MapBlock(nn.Module):
    """Pre-norm layer of an attention on maps and an MLP.

    Args:
        embed_dims (int): Channels C.
        feedforward_channels (int): Hidden channels of the MLP.
        attention (nn.Module | None): (B, C, H, W) to the same; None leaves
            the MLP alone.
        drop_path_rate (float): Stochastic depth of both parts. Default: 0.

    Shapes:
        (B, H, W, C) to (B, H, W, C).
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        attention: nn.Module | None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        drop_path = dict(type='DropPath', drop_prob=drop_path_rate)
        self.norm1 = None if attention is None else nn.LayerNorm(embed_dims)
        self.attn = attention
        self.drop_path = build_dropout(drop_path)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = _mlp(embed_dims, feedforward_channels, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm1 is not None and self.attn is not None:
            y = self.attn(self.norm1(x).movedim(3, 1)).movedim(1, 3)
            x = x + self.drop_path(y)
        return self.ffn(self.norm2(x), identity=x)


class ClassBlock(nn.Module):
    """Pre-norm layer in which the first token reads all, itself included.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): A divisor of C.
        feedforward_channels (int): Hidden channels of the MLP.

    Shapes:
        (B, 1 + N, C) to (B, 1 + N, C); only the first token changes.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, feedforward_channels: int
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = _ClassAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = _mlp(embed_dims, feedforward_channels)

    def forward(self, x: Tensor) -> Tensor:
        token = x[:, :1] + self.attn(self.norm1(x))
        token = self.ffn(self.norm2(token), identity=token)
        return torch.cat([token, x[:, 1:]], dim=1)


class _ClassAttention(nn.Module):
    """(B, 1 + N, C) to what the first token reads, (B, 1, C)."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dims, embed_dims, bias=False)
        self.key_value = nn.Linear(embed_dims, 2 * embed_dims, bias=False)
        self.out = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(x[:, :1]), *self.key_value(x).chunk(2, 2))
        )  # (B, h, 1 or 1 + N, D)
        out = dot_product_attention(query, key, value)
        return self.out(out.transpose(1, 2).flatten(2))


def _mlp(
    embed_dims: int, hidden: int, drop_path: dict | None = None
) -> nn.Module:
    return FFN(
        embed_dims,
        hidden,
        act_cfg=dict(type='GELU'),
        dropout_layer=drop_path,
    )
