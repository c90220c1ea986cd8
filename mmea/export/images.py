"""What the data preprocessor does to images, inside the graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.models import registered_layers

__all__ = ['Images', 'input_channels', 'to_stack']


class Images(nn.Module):
    """Normalise and pad images as a data preprocessor does in a test.

    Args:
        preprocessor (nn.Module): Of a model of mmseg, mmdet or mmpretrain.

    Shapes:
        Images (B, C, H, W), values 0..255, of three channels in the order
        RGB, to float32 (B, C, H', W'), H' and W' padded.

    Raises:
        UserError: It pads to a size, not to a divisor.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        # The loaders of the stack read BGR; one that turns it round feeds
        # RGB, which the graph gets already.
        turned = any(
            getattr(preprocessor, name, False)
            for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
        )
        self.swap = not turned
        mean, std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        if getattr(preprocessor, '_enable_normalize', False):
            mean, std = preprocessor.mean, preprocessor.std
        self.register_buffer('mean', mean.detach().clone())
        self.register_buffer('std', std.detach().clone())
        self.divisor, self.fill = _padding(preprocessor)
        self.masks = getattr(preprocessor, 'padding_mask', False)

    def forward(self, image: Tensor) -> Tensor:
        x = image.float()
        if self.swap and x.shape[1] == 3:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        if self.divisor > 1:
            # Of all ways to say it the one that torch.export simplifies best.
            rows, columns = (
                (n + self.divisor - 1) // self.divisor * self.divisor - n
                for n in x.shape[-2:]
            )
            x = F.pad(x, (0, columns, 0, rows), value=self.fill)
        return x

    @contextmanager
    def mask(self, image: Tensor, x: Tensor) -> Iterator[None]:
        """Let the registered layers see which part of a map is image.

        The notes of a batch are Python's numbers; those of a graph are not,
        and the mask of its maps is always there, all True without padding.

        Args:
            image (Tensor): (B, C, H, W).
            x (Tensor): (B, C, H', W'), as :meth:`forward` gave it.
        """

        def current_mask(feat: Tensor) -> Tensor | None:
            if self.divisor == 1 or not self.masks:
                return None
            rows, columns = (
                torch.arange(count, device=feat.device) * whole < own * count
                for count, whole, own in zip(
                    feat.shape[-2:], x.shape[-2:], image.shape[-2:]
                )
            )
            valid = rows[:, None] & columns[None]
            return valid.expand(feat.shape[0], *valid.shape)

        with patch.object(registered_layers, 'current_mask', current_mask):
            yield


def _padding(preprocessor: Any) -> tuple[int, float]:
    if hasattr(preprocessor, 'test_cfg'):  # mmseg's pads otherwise in a test
        test_cfg = preprocessor.test_cfg or {}
        if test_cfg.get('size'):
            raise UserError(
                f'data_preprocessor.test_cfg.size={test_cfg["size"]} pads '
                'images to a size, which the graph does not: export with '
                '--cfg-options model.data_preprocessor.test_cfg=None'
            )
        divisor, fill = test_cfg.get('size_divisor'), preprocessor.pad_val
    else:
        divisor = getattr(preprocessor, 'pad_size_divisor', 1)
        fill = getattr(preprocessor, 'pad_value', 0)
    return divisor or 1, float(fill)


def input_channels(model: nn.Module) -> int:
    """Tell how many channels the images of a model have: those of its stem."""
    for module in model.backbone.modules():  # type: ignore[union-attr]
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def to_stack(image: Tensor) -> list[Tensor]:
    """Turn a batch in RGB into the images that the stack's loaders give."""
    return list(image.flip(1) if image.shape[1] == 3 else image)
