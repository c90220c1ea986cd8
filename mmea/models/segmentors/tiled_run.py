"""Pass after pass of a segmentor over tiles, with the numbers of one run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.models.padding_mask import note_sizes
from mmea.ops import TokenStats
from mmea.scale import collect_token_stats, use_token_stats
from mmea.scale.exchange import find_layers

from .tile_probe import (
    check_local,
    encode_decode_part,
    find_halo,
    find_stride,
)

__all__ = ['Passes', 'Tile', 'TiledRun']

#: A part of the images, prepared, (B, 3, h, w), and the sizes of what of each
#: is no padding; None, all is.
Read = Callable[[tuple[int, int, int, int]], tuple[Tensor, list | None]]


@dataclass(frozen=True)
class Tile:
    """Corners (top, left, bottom, right) in the image that is padded."""

    outer: tuple[int, int, int, int]
    core: tuple[int, int, int, int]
    image: tuple[int, int]

    def window(self) -> Tensor:
        """Mark the core in the tile."""
        top, left, bottom, right = self.outer
        window = torch.zeros(bottom - top, right - left, dtype=torch.bool)
        window[self.core_part()] = True
        return window

    def core_part(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the tile."""
        top, left = self.outer[:2]
        rows, columns = self._slices(self.core)
        return (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )

    def image_part(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the image, without its padding."""
        top, left, bottom, right = self.core
        bottom, right = min(bottom, self.image[0]), min(right, self.image[1])
        return self._slices((top, left, bottom, right))

    def without_padding(self, logits: Tensor) -> Tensor:
        """Take from what is of the core (..., h, w) what is in the image."""
        rows, columns = self.image_part()
        return logits[
            ..., : rows.stop - rows.start, : columns.stop - columns.start
        ]

    @staticmethod
    def _slices(corners: tuple[int, int, int, int]) -> tuple[slice, slice]:
        top, left, bottom, right = corners
        return slice(top, bottom), slice(left, right)


@dataclass
class Passes:
    """How far the passes over an image are.

    Attributes:
        stats: Statistics of the whole image, by layer, that are complete.
        found: Those that the present pass collects.
        number: Passes that are complete.
        done: Tiles of the present pass that are behind it.
        last: Whether the present pass is the last, which gives the logits.
    """

    stats: dict[str, TokenStats] = field(default_factory=dict)
    found: dict[str, TokenStats] = field(default_factory=dict)
    number: int = 0
    done: int = 0
    last: bool = False


class TiledRun:
    """Run a segmentor of mmseg over tiles of images.

    The tiles overlap by as much as the model's convolutions reach, and its
    external attentions have the statistics of the whole image: pass after pass
    over the tiles collects them, one for each attention that stands behind
    another, and the last pass gives the logits. They are those of one run on
    the images, padded at the right and at the bottom to the stride, to
    rounding.

    Args:
        model (nn.Module): An EncoderDecoder of mmseg in eval mode.
        core (int): Pixels of a tile without its halo, a multiple of
            ``stride``. Default: 1024.
        halo (int | str | None): Pixels that a tile sees on each side beyond
            its core, likewise; less than :func:`find_halo` gives is not exact.
            Default: ``'auto'`` or None, what it gives.
        stride (int | None): A multiple of the strides of all the model's
            maps. Default: None, what :func:`find_stride` gives: 32 or more.

    Raises:
        UserError: A part of the model is not exact in tiles, which is named
            with the reason; or a bad argument.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        core: int = 1024,
        halo: int | str | None = 'auto',
        stride: int | None = None,
    ) -> None:
        check_local(model)
        stride = find_stride(model) if stride is None else stride
        if type(stride) is not int or stride < 1:
            raise UserError(
                f'stride must be an int of 1 or more, got {stride=}'
            )
        # It finds what reads the whole map, too.
        reach = find_halo(model, stride=stride)
        halo = reach if halo in ('auto', None) else halo
        for name, size, low in (('core', core, stride), ('halo', halo, 0)):
            if type(size) is not int or size < low or size % stride:
                raise UserError(
                    f'{name} must be a multiple of {stride=}, at least {low}, '
                    f'got {name}={size!r}'
                )
        assert isinstance(halo, int)
        self.model, self.core, self.halo, self.stride = (
            model,
            core,
            halo,
            stride,
        )
        try:
            find_layers(model)
            self.attentive = True
        except ValueError:
            self.attentive = False

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """Cut an image into tiles on the stride.

        They have no halo beyond the image's border: there the convolutions
        pad by themselves, as in one run.
        """
        height, width = (-(-n // self.stride) * self.stride for n in size)
        return [
            Tile(
                (
                    max(top - self.halo, 0),
                    max(left - self.halo, 0),
                    min(top + self.core + self.halo, height),
                    min(left + self.core + self.halo, width),
                ),
                (
                    top,
                    left,
                    min(top + self.core, height),
                    min(left + self.core, width),
                ),
                size,
            )
            for top in range(0, height, self.core)
            for left in range(0, width, self.core)
        ]

    def count_passes(self) -> int:
        """Count the passes, by those that an image of one tile takes."""
        weight = next(p for p in self.model.parameters() if p.dim() == 4)
        x = weight.new_zeros(1, weight.shape[1], self.stride, self.stride)
        size = self.stride, self.stride
        return sum(1 for _ in self(lambda _: (x, None), size))

    @torch.no_grad()
    def __call__(
        self, read: Read, size: tuple[int, int], passes: Passes | None = None
    ) -> Iterator[tuple[Tile, Tensor | None]]:
        """Run all passes.

        Args:
            read (Callable): Gives the part of the images between corners (top,
                left, bottom, right), which may lie beyond the image at the
                bottom and at the right, and what of each is no padding.
            size (tuple[int, int]): Height and width of the images.
            passes (Passes | None): Where to begin, kept up to date: it is
                right whenever a tile is yielded. Default: None, at the start.

        Yields:
            tuple[Tile, Tensor | None]: Each tile of each pass; of the last
            pass with the logits (B, classes, h, w) of its core.

        Raises:
            UserError: The logits are NaN.
        """
        passes = Passes() if passes is None else passes
        tiles = self.tiles(size)
        while True:
            for tile in tiles[passes.done :]:
                logits = self._run(read, tile, passes)
                passes.done += 1
                passes.last = logits is not None
                if logits is not None and logits.isnan().any():
                    raise UserError(
                        'the model gives NaN, which its weights or a tile of '
                        f'the image at row {tile.core[0]}, column '
                        f'{tile.core[1]} bring'
                    )
                yield tile, logits
            if not passes.found:
                return
            passes.stats.update(passes.found)
            passes.found, passes.done = {}, 0
            passes.number += 1

    def _run(self, read: Read, tile: Tile, passes: Passes) -> Tensor | None:
        x, sizes = read(tile.outer)
        note_sizes(x, sizes)
        with ExitStack() as stack:
            if self.attentive:
                stack.enter_context(
                    collect_token_stats(
                        self.model,
                        passes.found,
                        window=tile.window().to(x.device),
                        normalise_by='nothing',
                    )
                )
                stack.enter_context(use_token_stats(self.model, passes.stats))
            return encode_decode_part(
                self.model, x, tile.core_part(), lambda: not passes.found
            )
