import torch.nn.functional as F
from torch import Tensor, nn

from mmea.layers._checks import check_positive

from .tokens_to_token import STRIDE

__all__ = ['ConvStem']


class ConvStem(nn.Module):
    """Image to tokens of stride 16, by four convolutions of stride 2.

    3 x 3, each but the last with batch norm and ReLU. The image is padded
    with zeros, at the right and at the bottom, up to multiples of 16.

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Channels of the tokens.
        hidden_channels (int): Of the second map; the first has half as many,
            the third twice as many. Default: 64.

    Shapes:
        (B, in_channels, H, W) to (B, h w, embed_dims), rows first, and the
        grid (h, w) = (ceil(H / 16), ceil(W / 16)).

    Source: arXiv:2106.14881, with a convolution of stride 2 as its last.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, *, hidden_channels: int = 64
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            embed_dims=embed_dims,
            hidden_channels=hidden_channels,
        )
        half = max(hidden_channels // 2, 1)
        widths = in_channels, half, 2 * half, 4 * half
        layers: list[nn.Module] = []
        for width, out_channels in zip(widths, widths[1:]):
            layers += [
                nn.Conv2d(width, out_channels, 3, 2, 1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
        self.convs = nn.Sequential(
            *layers, nn.Conv2d(widths[-1], embed_dims, 3, 2, 1)
        )

    def reset_parameters(self) -> None:
        for layer in self.convs:
            if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = x.shape[2:]
        x = self.convs(F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE)))
        return x.flatten(2).transpose(-2, -1), (x.shape[2], x.shape[3])
