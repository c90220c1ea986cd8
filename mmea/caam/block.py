from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmea.layers._checks import check_choice, check_positive
from mmea.models.registered_layers import CaaMPair2d

__all__ = ['CaaMBlock']

PATHS = ('one', 'split', 'two')


class CaaMBlock(BaseModule):
    """Residual block of CaaM: before, at or behind the split.

    With F(x) = bn2(conv2(relu(bn1(conv1(x))))), 3 x 3, e(x) = x or, where
    the shape changes, bn(1 x 1 conv), and ``c, s`` the causal pair of a map:

    * ``'one'``: ``c, _ = pair(F(x))``, returns ``relu(c + e(x))``.
    * ``'split'``: ``c, s = pair(F(x))``; causal ``relu(c + e(x))``, spurious
      ``relu(s)``, without residual, and mix ``relu(F(x) + e(x))``.
    * ``'two'``: ``c, s = pair(F(x) + F'(x'))`` of a causal and a spurious
      input, F' with the same convolutions and norms of its own; causal
      ``relu(c + e(x))``, spurious ``relu(s + e(x'))`` and mix
      ``relu(c + e(x) + s + e(x'))``.

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels C of the output.
        stride (int): Of the first convolution. Default: 1.
        paths (str): 'one', 'split' or 'two'. Default: 'one'.
        gate (dict): Config of the gate, without a residual.
            Default: ``dict(type='mmea.CBAMGate2d')``.
        norm_cfg (dict): Config of the norms. Default: ``dict(type='BN')``.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None.

    Raises:
        ValueError: A size is below 1, or ``paths`` unknown.

    Source: arXiv:2108.08782; the form from the authors' code.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        paths: str = 'one',
        gate: dict = dict(type='mmea.CBAMGate2d'),
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_positive(
            in_channels=in_channels, channels=channels, stride=stride
        )
        check_choice('paths', paths, PATHS)
        self.paths = paths
        # The names of a plain ResNet, so that its weights load.
        self.conv1 = nn.Conv2d(
            in_channels, channels, 3, stride=stride, padding=1, bias=False
        )
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        for i in range(1, 5 if paths == 'two' else 3):
            self.add_module(f'bn{i}', build_norm_layer(norm_cfg, channels)[1])
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                build_norm_layer(norm_cfg, channels)[1],
            )
        self.pair = CaaMPair2d(channels, gate=gate)

    def forward(self, x: Any) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Run the block.

        Args:
            x (Tensor | tuple[Tensor, ...]): (B, in_channels, H, W); of
                'two', what a block behind the split returns, whose third map
                is not looked at.

        Returns:
            Tensor | tuple[Tensor, Tensor, Tensor]: (B, C, ceil(H / stride),
            ceil(W / stride)): the causal map, or causal, spurious and mix.
        """
        if self.paths == 'two':
            return self._two(*x[:2])
        out = self._convolve(x, self.bn1, self.bn2)
        skip = self._skip(x)
        causal, spurious = self.pair(out)
        causal = F.relu(causal + skip)
        if self.paths == 'one':
            return causal
        return causal, F.relu(spurious), F.relu(out + skip)

    def _two(
        self, causal: Tensor, spurious: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Norms count their batches: causal comes first, as published.
        skip, spurious_skip = self._skip(causal), self._skip(spurious)
        out = self._convolve(causal, self.bn1, self.bn2)
        out = out + self._convolve(spurious, self.bn3, self.bn4)
        causal, spurious = self.pair(out)
        causal, spurious = causal + skip, spurious + spurious_skip
        return F.relu(causal), F.relu(spurious), F.relu(causal + spurious)

    def _convolve(
        self, x: Tensor, norm1: nn.Module, norm2: nn.Module
    ) -> Tensor:
        return norm2(self.conv2(F.relu(norm1(self.conv1(x)))))

    def _skip(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)
