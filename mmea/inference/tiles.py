"""Segment an image of any size in tiles, with the numbers of the whole."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.models.padding_mask import note_sizes
from mmea.ops import TokenStats
from mmea.scale import collect_token_stats, use_token_stats
from mmea.scale.exchange import find_layers

from .tile_probe import check_local, encode_decode, find_halo

__all__ = ['find_halo', 'segment_in_tiles', 'tile_logits']


@torch.no_grad()
def segment_in_tiles(
    model: nn.Module,
    image: np.ndarray,
    *,
    core: int = 1024,
    halo: int | None = None,
    stride: int = 32,
    out: str | os.PathLike | None = None,
) -> np.ndarray:
    """Find the class of each pixel of an image too large for one run.

    What :func:`tile_logits` gives, class by class of the highest; the result
    may be on the disk. Neither the image nor a map of it is ever in the
    model's memory as a whole.

    Args:
        model, image, core, halo, stride: Of :func:`tile_logits`.
        out (str | PathLike | None): A ``.npy`` file to write the classes to,
            memory-mapped. Default: None, in memory.

    Returns:
        np.ndarray: (H, W), uint8, or uint16 beyond 256 classes.

    Raises:
        UserError: As of :func:`tile_logits`.
    """
    classes: np.ndarray | None = None
    for rows, columns, logits in tile_logits(
        model, image, core=core, halo=halo, stride=stride
    ):
        if classes is None:
            dtype = np.uint8 if len(logits) <= 256 else np.uint16
            size = image.shape[:2]
            classes = (
                np.zeros(size, dtype)
                if out is None
                else np.lib.format.open_memmap(out, 'w+', dtype, size)
            )
        if len(logits) == 1:  # a binary head with one channel
            head: Any = model.decode_head
            found = logits[0].sigmoid() > head.threshold
        else:
            found = logits.argmax(0)
        classes[rows, columns] = found.cpu().numpy()
    assert classes is not None
    return classes


@torch.no_grad()
def tile_logits(
    model: nn.Module,
    image: np.ndarray,
    *,
    core: int = 1024,
    halo: int | None = None,
    stride: int = 32,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Run a segmentor of mmseg over tiles, with the numbers of one run.

    The model sees tiles that overlap by as much as its convolutions reach, and
    its external attentions have the statistics of the whole image: pass after
    pass over the tiles collects them, one for each attention that stands
    behind another, and the last pass gives the logits. They are those of one
    run on the image, padded at the right and at the bottom to the stride, to
    rounding.

    Args:
        model (nn.Module): An EncoderDecoder of mmseg in eval mode.
        image (np.ndarray): (H, W, 3) uint8 as OpenCV reads it; a memory map
            serves. It is not resized.
        core (int): Pixels of a tile without its halo, a multiple of
            ``stride``. Default: 1024.
        halo (int | None): Pixels that a tile sees on each side beyond its
            core, likewise; less than :func:`find_halo` gives is not exact.
            Default: None, what it gives.
        stride (int): A multiple of the strides of all the model's maps.
            Default: 32.

    Yields:
        tuple[slice, slice, Tensor]: Rows, columns, and the logits
        (classes, h, w) there.

    Raises:
        UserError: A part of the model is not exact in tiles, which is named
            with the reason; a bad argument; logits that are NaN.
    """
    check_local(model)
    channels = next(p for p in model.parameters() if p.dim() == 4).shape[1]
    shape = getattr(image, 'shape', ())
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or shape[2:] != (channels,)
        or not image.size
    ):
        raise UserError(
            f'image must be (H, W, {channels}) of uint8, got '
            f'{type(image).__name__} {shape} of '
            f'{getattr(image, "dtype", None)}'
        )
    if type(stride) is not int or stride < 1:
        raise UserError(f'stride must be an int of 1 or more, got {stride=}')
    # It finds what reads the whole map, too.
    reach = find_halo(model, stride=stride)
    halo = reach if halo is None else halo
    for name, size, low in (('core', core, stride), ('halo', halo, 0)):
        if type(size) is not int or size < low or size % stride:
            raise UserError(
                f'{name} must be a multiple of {stride=}, at least {low}, got '
                f'{name}={size}'
            )
    try:
        find_layers(model)
        attentive = True
    except ValueError:
        attentive = False
    stats: dict[str, TokenStats] = {}
    while True:
        found: dict[str, TokenStats] = {}
        for tile in _tiles(image.shape[:2], core, halo, stride):
            x = _cut(model, image, tile)
            with ExitStack() as stack:
                if attentive:
                    stack.enter_context(
                        collect_token_stats(
                            model,
                            found,
                            window=tile.window().to(x.device),
                            normalise_by='nothing',
                        )
                    )
                    stack.enter_context(use_token_stats(model, stats))
                logits = encode_decode(model, x)[0]
            if found:
                continue  # not the last pass
            if logits.isnan().any():
                raise UserError(
                    'the model gives NaN, which its weights or a tile of the '
                    f'image at row {tile.core[0]}, column {tile.core[1]} bring'
                )
            rows, columns = tile.image_part()
            yield (
                rows,
                columns,
                logits[(slice(None), *tile.inside(rows, columns))],
            )
        if not found:
            return
        stats.update(found)


@dataclass(frozen=True)
class _Tile:
    """Corners (top, left, bottom, right) in the image that is padded."""

    outer: tuple[int, int, int, int]
    core: tuple[int, int, int, int]
    image: tuple[int, int]

    def window(self) -> Tensor:
        """Mark the core in the tile."""
        top, left, bottom, right = self.outer
        window = torch.zeros(bottom - top, right - left, dtype=torch.bool)
        rows, columns = (
            slice(a - o, b - o)
            for a, b, o in zip(self.core[:2], self.core[2:], self.outer)
        )
        window[rows, columns] = True
        return window

    def image_part(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the image."""
        rows, columns = (
            slice(a, min(b, size))
            for a, b, size in zip(self.core[:2], self.core[2:], self.image)
        )
        return rows, columns

    def inside(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        """Find the same in the tile."""
        top, left = self.outer[:2]
        return (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )


def _tiles(
    image: tuple[int, ...], core: int, halo: int, stride: int
) -> Iterator[_Tile]:
    """Yield tiles on the stride, without a halo beyond the image's border.

    There the convolutions pad by themselves, as in one run.
    """
    height, width = (-(-size // stride) * stride for size in image)
    for top in range(0, height, core):
        for left in range(0, width, core):
            bottom, right = min(top + core, height), min(left + core, width)
            yield _Tile(
                (
                    max(top - halo, 0),
                    max(left - halo, 0),
                    min(bottom + halo, height),
                    min(right + halo, width),
                ),
                (top, left, bottom, right),
                (image[0], image[1]),
            )


def _cut(model: nn.Module, image: np.ndarray, tile: _Tile) -> Tensor:
    """Prepare a tile (1, 3, h, w) as the model's preprocessor would."""
    top, left, bottom, right = tile.outer
    part = np.array(image[top:bottom, left:right])  # a map may be read-only
    parameter = next(model.parameters())
    x = torch.from_numpy(part).permute(2, 0, 1)[None].to(parameter)
    prepare: Any = model.data_preprocessor
    # Stock mmseg names it without the underscore.
    names = '_channel_conversion', 'channel_conversion'
    if any(getattr(prepare, name, False) for name in names):
        x = x.flip(1)
    if getattr(prepare, 'mean', None) is not None:
        x = (x - prepare.mean.to(x)) / prepare.std.to(x)
    size = x.shape[2], x.shape[3]
    x = F.pad(x, (0, right - left - size[1], 0, bottom - top - size[0]))
    # Where the preprocessor keeps padding out of the attention, so do tiles.
    masked = getattr(prepare, 'padding_mask', False)
    note_sizes(x, [size] if masked else None)
    return x
