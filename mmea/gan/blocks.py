"""What SAGAN's generator and discriminator are made of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.models import build_attention
from mmea.models.build_attention import takes_argument

__all__ = [
    'ConditionalBatchNorm2d',
    'DiscriminatorBlock',
    'FirstDiscriminatorBlock',
    'GeneratorBlock',
    'build_block_attention',
    'check_labels',
    'init_orthogonal',
]

EPS = 1e-4  # of all batch norms


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose scale and shift are those of the image's class.

    ``y = bn(x) * (1 + gain[label]) + bias[label]``.

    Args:
        channels (int): C.
        num_classes (int): K; 0 is an ordinary batch norm.

    Shapes:
        (B, C, H, W) and labels (B) to (B, C, H, W).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=EPS, affine=num_classes == 0)
        self.num_classes = num_classes
        if num_classes:
            self.gain = nn.Linear(num_classes, channels, bias=False)
            self.bias = nn.Linear(num_classes, channels, bias=False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.bn(x)
        if not self.num_classes:
            return x
        gain, bias = (
            linear.weight.t()[labels].to(x.dtype)[..., None, None]
            for linear in (self.gain, self.bias)
        )
        return x * (1 + gain) + bias


class GeneratorBlock(nn.Module):
    """Double the size, with a shortcut: (B, C, H, W) to (B, C', 2H, 2W).

    Args:
        in_channels (int): C.
        out_channels (int): C'.
        num_classes (int): Of :class:`ConditionalBatchNorm2d`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(in_channels, num_classes)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = ConditionalBatchNorm2d(out_channels, num_classes)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        h = F.relu(self.norm1(x, labels))
        h = self.conv1(F.interpolate(h, scale_factor=2.0))
        h = self.conv2(F.relu(self.norm2(h, labels)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2.0))


class FirstDiscriminatorBlock(nn.Module):
    """Halve the image, without an activation in front.

    Args:
        in_channels, out_channels (int): C and C'.
        norm (bool): Whether there are batch norms, for a discriminator
            without spectral norm; where they stand in the first block is
            recalled, not compared with recorded numbers.

    Shapes:
        (B, C, H, W) to (B, C', H // 2, W // 2).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: bool = False
    ) -> None:
        super().__init__()
        self.norm0 = _make_norm(in_channels, norm)
        self.norm1 = _make_norm(out_channels, norm)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.norm1(self.conv1(x))))
        short = self.shortcut(self.norm0(F.avg_pool2d(x, 2)))
        return F.avg_pool2d(h, 2) + short


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a shortcut.

    Without batch norms the shortcut sees relu(x), not x: in the published
    code the activation works in place. With them, x.

    Args:
        in_channels, out_channels (int): C and C'.
        downsample (bool): Whether it halves the size.
        norm (bool): See :class:`FirstDiscriminatorBlock`.

    Shapes:
        (B, C, H, W) to (B, C', H, W), or half of H and W.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        downsample: bool,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.norm = norm
        self.norm1 = _make_norm(in_channels, norm)
        self.norm2 = _make_norm(out_channels, norm)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module | None = None
        if downsample or in_channels != out_channels:
            self.norm0 = _make_norm(in_channels, norm)
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        short = x if self.norm else h
        if self.shortcut is not None:
            short = self.shortcut(self.norm0(short))
        h = self.conv2(F.relu(self.norm2(self.conv1(h))))
        if self.downsample:
            h, short = F.avg_pool2d(h, 2), F.avg_pool2d(short, 2)
        return h + short


def _make_norm(channels: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=EPS) if norm else nn.Identity()


def build_block_attention(
    attention: dict, channels: int, spectral_norm: bool
) -> nn.Module:
    """Build the attention of a network, whose maps have no padding.

    A matrix must not start at zero under spectral norm: a layer without a
    gate does not start as the identity there.
    """
    if spectral_norm and attention.get('with_cp'):
        raise ValueError(
            'attention.with_cp=True would take the steps of the spectral norm '
            'twice; leave it out'
        )
    layer = build_attention(attention, channels, padded=False)
    gated = hasattr(layer, 'gate')
    if spectral_norm and not gated and takes_argument(attention, 'zero_init'):
        cfg = dict(zero_init=False) | dict(attention)
        layer = build_attention(cfg, channels, padded=False)
    return layer


@torch.no_grad()
def init_orthogonal(model: nn.Module) -> None:
    """Initialise as published: orthogonal weights, biases of zero.

    What has an initialisation of its own, as an attention, keeps that.
    """
    for module in model.children():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            nn.init.orthogonal_(module.weight)
            bias = getattr(module, 'bias', None)
            if bias is not None:
                nn.init.zeros_(bias)
        elif not hasattr(module, 'init_weights'):
            init_orthogonal(module)


def check_labels(labels: Tensor | None, num_classes: int, batch: int) -> None:
    """Raise a ValueError for labels that are not of the classes."""
    if not num_classes:
        return
    if labels is None or labels.shape != (batch,):
        got = None if labels is None else tuple(labels.shape)
        raise ValueError(f'labels must be ({batch},), one each, got {got}')
    if torch.compiler.is_compiling():  # a graph has no values to look at
        return
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(
            f'labels must be in 0..{num_classes - 1} for '
            f'num_classes={num_classes}, got {wrong[0].item()}'
        )
