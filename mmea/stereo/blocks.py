"""The parts of PSMNet."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.errors import UserError

__all__ = [
    'Features',
    'Hourglass',
    'ResidualBlock',
    'conv_norm',
    'make_cost_volume',
    'make_head',
    'regress_disparity',
]

CONVS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_norm(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Make a convolution without bias, its norm and maybe a ReLU.

    Args:
        dims (int): 2 for maps, 3 for volumes.
        in_channels, out_channels, kernel_size, stride, dilation (int): Of the
            convolution, which keeps the size but for the stride.
        relu (bool): Default: True.
    """
    conv = CONVS[dims](
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=False,
    )
    norm = NORMS[dims](out_channels)
    return nn.Sequential(conv, norm, *[nn.ReLU(inplace=True)] * relu)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, without an activation at the end.

    Args:
        in_channels, out_channels (int): C and C'.
        stride (int): Default: 1. Where it is not 1 or C is not C', the
            shortcut is a projection with a norm.
        dilation (int): Of the convolutions. Default: 1.

    Shapes:
        (B, C, H, W) to (B, C', H / stride, W / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv_norm(
            2, in_channels, out_channels, stride=stride, dilation=dilation
        )
        self.conv2 = conv_norm(
            2, out_channels, out_channels, relu=False, dilation=dilation
        )
        self.shortcut: nn.Module = nn.Identity()
        if (stride, in_channels) != (1, out_channels):
            self.shortcut = conv_norm(
                2, in_channels, out_channels, 1, stride=stride, relu=False
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + self.shortcut(x)


class Features(nn.Module):
    """The features of an image, at a quarter of its size.

    Convolutions and residual blocks, spatial pyramid pooling, and what fuses
    the concatenation of both, of 10 C channels.

    Args:
        channels (int): C.
        num_blocks (Sequence[int]): Residual blocks of the four stages.
        pool_sizes (Sequence[int]): Windows of the pyramid.
        align_corners (bool): Of its resizing.
        attention (nn.Module): At ``place``, (B, C', H, W) to the same.
        place (str): 'concat', of 10 C channels, or 'features', of C.

    Shapes:
        (B, 3, H, W) to (B, C, H / 4, W / 4).
    """

    def __init__(
        self,
        channels: int,
        *,
        num_blocks: Sequence[int],
        pool_sizes: Sequence[int],
        align_corners: bool,
        attention: nn.Module,
        place: str,
    ) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Sequential(
            conv_norm(2, 3, c, stride=2),
            conv_norm(2, c, c),
            conv_norm(2, c, c),
        )
        widths, self.layers = (c, c, 2 * c, 4 * c, 4 * c), nn.ModuleList()
        for i, number in enumerate(num_blocks):
            blocks = [
                ResidualBlock(
                    widths[i + (j > 0)],
                    widths[i + 1],
                    stride=2 if (i, j) == (1, 0) else 1,
                    dilation=2 if i == 3 else 1,
                )
                for j in range(number)
            ]
            self.layers.append(nn.Sequential(*blocks))
        self.pool_sizes = tuple(pool_sizes)
        self.branches = nn.ModuleList(
            conv_norm(2, 4 * c, c, 1) for _ in pool_sizes
        )
        self.fuse = nn.Sequential(
            conv_norm(2, 6 * c + c * len(self.pool_sizes), 4 * c),
            nn.Conv2d(4 * c, c, 1, bias=False),
        )
        self.align_corners = align_corners
        self.attention = attention
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](self.stem(x))
        raw = self.layers[1](x)
        return self.pool(raw, self.layers[3](self.layers[2](raw)))

    def pool(self, raw: Tensor, deep: Tensor) -> Tensor:
        """Pool, and fuse with the maps of the second and the last stage."""
        size = deep.shape[-2:]
        if min(size) < max(self.pool_sizes):
            raise UserError(
                f'a map of {size[0]} x {size[1]}, a quarter of the image, is '
                f'smaller than a window of pool_sizes={self.pool_sizes}; give '
                f'images of at least {4 * max(self.pool_sizes)} pixels a '
                'side, or set smaller windows'
            )
        parts = [
            F.interpolate(
                branch(F.avg_pool2d(deep, window)),
                size,
                mode='bilinear',
                align_corners=self.align_corners,
            )
            for branch, window in zip(self.branches, self.pool_sizes)
        ]
        x = torch.cat([raw, deep, *reversed(parts)], 1)
        if self.place == 'concat':
            return self.fuse(self.attention(x))
        return self.attention(self.fuse(x))


def make_cost_volume(left: Tensor, right: Tensor, levels: int) -> Tensor:
    """Put the features of each pixel beside those that it may match.

    Args:
        left, right (Tensor): (B, C, H, W).
        levels (int): Disparities D: 0 to D - 1 pixels of the maps.

    Returns:
        Tensor: (B, 2 C, D, H, W); ``left[..., w]`` and ``right[..., w - d]``,
        and 0 where that is outside.
    """
    batch, channels, height, width = left.shape
    volume = left.new_zeros(batch, 2 * channels, levels, height, width)
    for d in range(min(levels, width)):
        volume[:, :channels, d, :, d:] = left[..., d:]
        volume[:, channels:, d, :, d:] = right[..., : width - d]
    return volume


class Hourglass(nn.Module):
    """Two steps down and two up again, with what earlier ones found.

    Args:
        channels (int): C.

    Shapes:
        (B, C, D, H, W), all three multiples of 4, to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.conv1 = conv_norm(3, c, 2 * c, stride=2)
        self.conv2 = conv_norm(3, 2 * c, 2 * c, relu=False)
        self.conv3 = conv_norm(3, 2 * c, 2 * c, stride=2)
        self.conv4 = conv_norm(3, 2 * c, 2 * c)
        self.conv5 = _grow(2 * c, 2 * c)
        self.conv6 = _grow(2 * c, c)

    def forward(
        self,
        x: Tensor,
        first_pre: Tensor | None = None,
        last_post: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the hourglass.

        Args:
            x (Tensor): (B, C, D, H, W).
            first_pre, last_post (Tensor | None): ``pre`` of the first
                hourglass and ``post`` of the one before this, both
                (B, 2 C, D / 2, H / 2, W / 2). Default: None, there is none.

        Returns:
            tuple[Tensor, Tensor, Tensor]: The output, ``pre`` and ``post``.
        """
        pre = self.conv2(self.conv1(x))
        pre = F.relu(pre if last_post is None else pre + last_post)
        post = self.conv5(self.conv4(self.conv3(pre)))
        post = F.relu(post + (pre if first_pre is None else first_pre))
        return self.conv6(post), pre, post


def _grow(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.ConvTranspose3d(
        in_channels, out_channels, 3, 2, 1, output_padding=1, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels))


def make_head(channels: int) -> nn.Sequential:
    """Make what gives a volume (B, C, D, H, W) its costs (B, 1, D, H, W)."""
    return nn.Sequential(
        conv_norm(3, channels, channels),
        nn.Conv3d(channels, 1, 3, padding=1, bias=False),
    )


def regress_disparity(
    costs: Tensor, scale: int = 4, *, align_corners: bool = False
) -> Tensor:
    """Take the mean disparity of the softmax over the costs.

    These are published as costs; the most likely has the largest.

    Args:
        costs (Tensor): (B, 1, D, H, W).
        scale (int): The volume is resized by it, all three sides.
            Default: 4.
        align_corners (bool): Of the resizing. Default: False.

    Returns:
        Tensor: (B, scale H, scale W), in pixels.
    """
    costs = F.interpolate(
        costs,
        [scale * side for side in costs.shape[-3:]],
        mode='trilinear',
        align_corners=align_corners,
    ).squeeze(1)
    # Half precision does not hold 0 to 191 with fractions.
    full = torch.promote_types(costs.dtype, torch.float32)
    share = costs.softmax(1, dtype=full)
    steps = torch.arange(share.shape[1], dtype=full, device=share.device)
    # No matrix product: autocast would round it.
    return (share * steps[:, None, None]).sum(1)
