"""Which part of a batch is image and which is padding.

The data preprocessor knows: it pads. It notes the sizes here, and every
registered attention layer reads them when the batch comes by::

    mmea.DetDataPreprocessor ── note_sizes() ──> [sizes of this batch]
    mmea.SegDataPreProcessor                             │
    registered layer: forward(x) <── current_mask(x) ────┘

The note is bound to the batch it was made for: it is gone as soon as the
batch is, or the next one comes. Some models prepare several batches before
they look at the first (semi-supervised ones: the labelled, the weakly and the
strongly augmented images); a map then gets a mask only if the number of its
images tells which of them it is of.
"""

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ['current_mask', 'note_sizes', 'pop_sizes']

Sizes = list[tuple[int, int]]
# The batches that were noted since a mask was last asked for, weakly, and
# their images' sizes; None where there is no padding.
_notes: list[tuple[weakref.ref[Tensor], Sizes | None]] = []
_asked = False


def note_sizes(
    batch: Tensor, sizes: Sequence[tuple[int, int]] | None = None
) -> None:
    """Note the sizes of a batch's images, or that they do not matter.

    Args:
        batch (Tensor): (B, 3, H, W), what the model gets.
        sizes (Sequence[tuple[int, int]] | None): Height and width of each
            image, at its upper left; the rest is padding. Default: None, all
            of the batch is valid.
    """
    global _asked
    if _asked:
        _notes.clear()
        _asked = False
    _notes[:] = [
        n for n in _notes if n[0]() is not None and n[0]() is not batch
    ]
    whole = tuple(batch.shape[-2:])
    padded = sizes is not None and any(tuple(s[:2]) != whole for s in sizes)
    _notes.append((weakref.ref(batch), list(sizes) if padded else None))  # type: ignore[arg-type]


def pop_sizes(batch: Tensor) -> Sizes | None:
    """Take back what was noted of a batch, to run the model on parts of it.

    Returns:
        list | None: The sizes of its images, as they were noted.
    """
    for i, (note, sizes) in enumerate(_notes):
        if note() is batch:
            del _notes[i]
            return sizes
    return None


def current_mask(x: Tensor) -> Tensor | None:
    """Make the padding mask of a map of the current batch.

    Args:
        x (Tensor): (B, C, H, W), a map of any stride.

    Returns:
        Tensor | None: bool (B, H, W), True where a token's upper left pixel
        is in the image. None if the batch has no padding, if it has gone, if
        x has another number of images, or if x may be of several batches.
    """
    global _asked
    _asked = True
    found = []
    for note, sizes in _notes:
        batch = note()
        if batch is not None and len(batch) == len(x):
            found.append((batch, sizes))
    if len(found) != 1:
        return None
    ((batch, sizes),) = found
    if sizes is None:
        return None
    valid = [
        # An index times the stride, compared with a size in pixels.
        torch.arange(count, device=x.device) * whole
        < torch.tensor(own, device=x.device)[:, None] * count
        for count, whole, own in zip(
            x.shape[-2:], batch.shape[-2:], zip(*(s[:2] for s in sizes))
        )
    ]
    return valid[0][:, :, None] & valid[1][:, None, :]
