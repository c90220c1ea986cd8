"""Images by class, and what lies between two of them, as pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from mmea.files import whole
from mmea.layers._checks import check_int, check_positive

from .noise import draw_noise, interpolate, to_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['draw_rows', 'sample_rows', 'walk_rows', 'write_samples']

BATCH = 100  # images at a time


def sample_rows(
    model: Any, labels: Sequence[int], number: int, seed: int = 0
) -> Tensor:
    """Make images of each class from the same noise.

    In evaluation mode, which is left again; torch's random state is neither
    read nor changed.

    Args:
        model (GAN): With its generator.
        labels (Sequence[int]): R classes, one for each row.
        number (int): N, images of a class; a column is of one noise.
        seed (int): Of the noise. Default: 0.

    Returns:
        Tensor: uint8 (R, N, 3, H, W), RGB, on the CPU.

    Raises:
        ValueError: A number is out of its range.
    """
    check_positive(number=number)
    return _make(model, labels, _draw(model, number, seed))


def walk_rows(
    model: Any, labels: Sequence[int], steps: int, seed: int = 0
) -> Tensor:
    """Make the images between two, in each class.

    From the first noise of :func:`sample_rows` to the second, along the
    sphere (:func:`~mmea.gan.interpolate`).

    Args:
        model (GAN): With its generator.
        labels (Sequence[int]): R classes, one for each row.
        steps (int): N, with both ends, 2 or more.
        seed (int): Of the noise. Default: 0.

    Returns:
        Tensor: uint8 (R, N, 3, H, W), RGB, on the CPU.

    Raises:
        ValueError: A number is out of its range.
    """
    start, end = _draw(model, 2, seed)
    return _make(model, labels, interpolate(start, end, steps))


def _draw(model: Any, number: int, seed: int) -> Tensor:
    check_int(0, seed=seed)
    channels = model.generator.noise_channels
    # One by one: the first are the same, however many are drawn.
    rows = draw_noise((seed,), [1] * number, channels, 0)
    return torch.cat([noise for noise, _ in rows])


def _make(model: Any, labels: Sequence[int], noise: Tensor) -> Tensor:
    rows = torch.as_tensor(labels).repeat_interleave(len(noise))
    every = noise.repeat(len(labels), 1)
    with _evaluating(model):
        parts = [
            to_pixels(model.generate(len(z), y, noise=z)).cpu()
            for z, y in zip(every.split(BATCH), rows.split(BATCH))
        ]
    return torch.cat(parts).unflatten(0, (len(labels), -1))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and each part back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def draw_rows(rows: Tensor, names: Sequence[str]) -> 'Figure':
    """Draw a row of images for each class, with its name on the left.

    Args:
        rows (Tensor): uint8 (R, N, 3, H, W), RGB.
        names (Sequence[str]): R.

    Returns:
        Figure: Of matplotlib.
    """
    from matplotlib.figure import Figure

    # In inches: an image, and the longest name.
    side, left = 0.75, 0.2 + 0.085 * max(map(len, names))
    number, count = rows.shape[:2]
    width, height = left + side * count, side * number
    figure = Figure((width, height))
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        ax = figure.add_axes(
            (
                left / width,
                1 - (i + 1) / number,
                1 - left / width,
                1 / number,
            )
        )
        ax.imshow(_beside(row), interpolation='nearest', aspect='auto')
        ax.set_axis_off()
        figure.text(
            (left - 0.1) / width,
            1 - (i + 0.5) / number,
            name,
            ha='right',
            va='center',
            fontsize=9,
        )
    return figure


def _beside(row: Tensor) -> Any:
    """Put images side by side, with a white pixel between."""
    padded = nn.functional.pad(row, (1, 1, 1, 1), value=255)
    return torch.cat(list(padded), -1).permute(1, 2, 0).numpy()


def write_samples(
    model: Any,
    classes: Mapping[int, str],
    out: Path,
    *,
    number: int = 10,
    steps: int = 10,
    seed: int = 0,
) -> None:
    """Write images of classes, each to its file, and pictures of all.

    ``CLASS/0000.png`` and so on, ``grid.png`` of the first 10 of each class,
    and ``walk.png``; files of the same names are replaced.

    Args:
        model (GAN): With its generator.
        classes (Mapping[int, str]): Labels and the names of their folders.
        out (Path): Folder.
        number (int): Images of a class. Default: 10.
        steps (int): Of the walk, 2 or more. Default: 10.
        seed (int): Of the noise. Default: 0.

    Raises:
        ValueError: A number is out of its range.
    """
    names = list(classes.values())
    rows = sample_rows(model, list(classes), number, seed)
    for name, row in zip(names, rows):
        for i, image in enumerate(row):
            with whole(out / name / f'{i:04}.png') as part:
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(part)
    walk = walk_rows(model, list(classes), steps, seed)
    for stem, shown in dict(grid=rows[:, :10], walk=walk).items():
        with whole(out / f'{stem}.png') as part:
            draw_rows(shown, names).savefig(part, dpi=120)
