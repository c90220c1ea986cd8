"""Segment an image of any size in tiles, with the numbers of the whole."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.files import whole
from mmea.models.segmentors.tile_probe import classify, find_halo
from mmea.models.segmentors.tiled_run import Passes, Read, TiledRun
from mmea.ops import TokenStats

from .windows import Windows, as_windows

__all__ = ['find_halo', 'segment_in_tiles', 'tile_logits']

Image = np.ndarray | Windows


def segment_in_tiles(
    model: nn.Module,
    image: Image,
    *,
    core: int = 1024,
    halo: int | str | None = 'auto',
    stride: int | None = None,
    out: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    on_tile: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Find the class of each pixel of an image too large for one run.

    What :func:`tile_logits` gives, class by class of the highest; the result
    may be on the disk. Neither the image nor a map of it is ever in the
    model's memory as a whole.

    Args:
        model, image, core, halo, stride: Of :func:`tile_logits`.
        out (str | PathLike | None): A ``.npy`` file to write the classes to,
            memory-mapped. Its room on the disk is taken at once. Default:
            None, in memory.
        resume (str | PathLike | None): A ``.npz`` file that keeps how far the
            work is, after every tile. If it is there, whole and of the same
            model, image and tiles, and so is ``out``, the work goes on from
            there, and else begins anew. The model's weights are compared, the
            image's pixels are not; one process at a time. Needs ``out``.
            Default: None.
        on_tile (Callable | None): Called after each tile with the tiles done
            and those of all passes. Default: None.

    Returns:
        np.ndarray: (H, W), uint8, or uint16 beyond 256 classes.

    Raises:
        UserError: As of :func:`tile_logits`; ``resume`` without ``out``.
    """
    if resume is not None and out is None:
        raise UserError('resume needs out, the file that holds the classes')
    run = TiledRun(model, core=core, halo=halo, stride=stride)
    windows = as_windows(image, count_channels(model))
    number = len(run.tiles(windows.size))
    total = number * run.count_passes()
    state = _State(resume, out, windows.size, _describe(run, windows))
    passes, classes = state.read()
    for tile, logits in run(_reader(model, windows), windows.size, passes):
        if logits is not None:
            if classes is None:
                classes = _make_classes(out, windows.size, logits.shape[1])
            found = classify(model, tile.without_padding(logits))[0, 0]
            classes[tile.image_part()] = found.cpu().numpy()
        state.write(passes, classes)
        if on_tile is not None:
            on_tile(passes.number * number + passes.done, total)
    assert classes is not None
    return classes


def tile_logits(
    model: nn.Module,
    image: Image,
    *,
    core: int = 1024,
    halo: int | str | None = 'auto',
    stride: int | None = None,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Run a segmentor of mmseg over tiles, with the numbers of one run.

    How it does that tells :class:`mmea.models.segmentors.TiledRun`.

    Args:
        model (nn.Module): An EncoderDecoder of mmseg in eval mode.
        image (np.ndarray | Windows): (H, W, C) uint8 as OpenCV reads it; a
            memory map serves, and what :func:`open_windows` gives. It is not
            resized.
        core, halo, stride: As there.

    Yields:
        tuple[slice, slice, Tensor]: Rows, columns, and the logits
        (classes, h, w) there.

    Raises:
        UserError: A part of the model is not exact in tiles, which is named
            with the reason; a bad argument; logits that are NaN.
    """
    run = TiledRun(model, core=core, halo=halo, stride=stride)
    windows = as_windows(image, count_channels(model))
    for tile, logits in run(_reader(model, windows), windows.size):
        if logits is not None:
            yield *tile.image_part(), tile.without_padding(logits)[0]


def count_channels(model: nn.Module) -> int:
    """Count the channels of the images that a segmentor takes."""
    return next(p for p in model.parameters() if p.dim() == 4).shape[1]


def _make_classes(
    out: str | os.PathLike | None, size: tuple[int, int], number: int
) -> np.ndarray:
    dtype = np.uint8 if number <= 256 else np.uint16
    if out is None:
        return np.zeros(size, dtype)
    classes = np.lib.format.open_memmap(out, 'w+', dtype, size)
    # Or a full disk would end Python by a signal, in the middle.
    with open(out, 'rb+') as file:
        os.posix_fallocate(file.fileno(), 0, os.path.getsize(out))
    return classes


def _reader(model: nn.Module, image: Windows) -> Read:
    """Read parts as the model's preprocessor would prepare the whole."""
    parameter = next(model.parameters())
    prepare: Any = model.data_preprocessor
    # Stock mmseg names it without the underscore.
    names = '_channel_conversion', 'channel_conversion'
    turn = any(getattr(prepare, name, False) for name in names)
    masked = getattr(prepare, 'padding_mask', False)
    mean = getattr(prepare, 'mean', None)

    def read(corners: tuple[int, int, int, int]) -> tuple[Tensor, list | None]:
        top, left, bottom, right = corners
        part = image.read(top, left, bottom, right)
        x = torch.from_numpy(part).permute(2, 0, 1)[None].to(parameter)
        if turn and x.shape[1] == 3:
            x = x.flip(1)
        if mean is not None:
            x = (x - mean.to(x)) / prepare.std.to(x)
        size = x.shape[2], x.shape[3]
        x = F.pad(x, (0, right - left - size[1], 0, bottom - top - size[0]))
        # Where the preprocessor keeps padding out of the attention, so do
        # tiles.
        return x, [size] if masked else None

    return read


def _describe(run: TiledRun, image: Windows) -> str:
    """Describe all on which the classes depend, but the pixels."""
    model: Any = run.model
    weights = hashlib.sha256()
    # Of a preprocessor mean and std are in no state_dict.
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, value in named:
        weights.update(name.encode())
        value = value.detach().cpu().contiguous().view(-1)
        weights.update(value.view(torch.uint8).numpy().tobytes())
    plain = str, int, float, bool, type(None)
    settings = [
        {k: v for k, v in vars(part).items() if isinstance(v, plain)}
        for part in (model.data_preprocessor, model.decode_head)
    ]
    return json.dumps(
        [
            str(model),
            settings,
            weights.hexdigest(),
            image.name,
            image.size,
            [run.core, run.halo, run.stride],
        ]
    )


class _State:
    """How far the work on an image is, in a file."""

    def __init__(
        self,
        path: str | os.PathLike | None,
        out: str | os.PathLike | None,
        size: tuple[int, int],
        what: str,
    ) -> None:
        self.path, self.out, self.size, self.what = path, out, size, what

    def read(self) -> tuple[Passes, np.ndarray | None]:
        """Read it, if it is whole and of the same work."""
        try:
            passes, what = self._read()
            if what != self.what:
                return Passes(), None
            if not passes.last:
                return passes, None
            return passes, self._read_classes()
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return Passes(), None

    def _read(self) -> tuple[Passes, str]:
        if self.path is None:
            return Passes(), self.what
        with np.load(self.path) as stored:
            head = json.loads(str(stored['head']))
            what = head.pop('what')
            stats: dict[str, Any] = dict(stats={}, found={})
            for key in stored.files[1:]:
                kind, _, name = key.partition('/')
                tensor = torch.from_numpy(stored[key])
                stats[kind][name] = TokenStats.from_tensor(tensor)
        return Passes(**stats, **head), what

    def _read_classes(self) -> np.ndarray:
        assert self.out is not None
        before = os.path.getsize(self.out)
        classes = np.lib.format.open_memmap(self.out, 'r+')
        # It would fill up what is missing.
        whole = before == os.path.getsize(self.out)
        if not whole or classes.shape != self.size:
            raise ValueError('no map of these classes')
        return classes

    def write(self, passes: Passes, classes: np.ndarray | None) -> None:
        """Keep it, whole or not at all, after the classes that it counts."""
        if self.path is None:
            return
        if isinstance(classes, np.memmap):
            classes.flush()
        arrays = {
            f'{kind}/{name}': stats.to_tensor().cpu().numpy()
            for kind in ('stats', 'found')
            for name, stats in getattr(passes, kind).items()
        }
        head = dict(
            what=self.what,
            number=passes.number,
            done=passes.done,
            last=passes.last,
        )
        with whole(self.path) as part:
            np.savez(part, head=json.dumps(head), **arrays)
