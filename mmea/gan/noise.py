"""Where images begin, in noise, and end, in pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmea.layers._checks import check_int

__all__ = ['draw_noise', 'interpolate', 'to_pixels']


def draw_noise(
    seed: Sequence[int], numbers: Sequence[int], channels: int, classes: int
) -> list[tuple[Tensor, Tensor]]:
    """Draw the noise and the labels of an iteration, on the CPU.

    Args:
        seed (Sequence[int]): Numbers of 0 and more, such as a seed and an
            iteration; zeros at the end change nothing.
        numbers (Sequence[int]): Images of each step.
        channels (int): Of the noise.
        classes (int): K; 0 gives labels of 0.

    Returns:
        list[tuple[Tensor, Tensor]]: Of each step noise (B, channels), normal
        in float32, and labels (B), uniform.
    """
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    # A seed is a signed number.
    source = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return [
        (
            torch.randn(number, channels, generator=source),
            torch.randint(max(classes, 1), (number,), generator=source),
        )
        for number in numbers
    ]


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Walk from one noise to another along the sphere.

    ``(sin((1 - t) w) start + sin(t w) end) / sin(w)``, w the angle between the
    two: points in between are as long as normal noise is, where those of a
    straight line are shorter. Of two that lie in one line, that line.

    Args:
        start, end (Tensor): (Z).
        steps (int): 2 or more; the first is the start, the last the end.

    Returns:
        Tensor: (steps, Z).

    Raises:
        ValueError: The two differ in shape, or ``steps`` is below 2.

    Source: arXiv:1609.04468.
    """
    check_int(2, steps=steps)
    if start.dim() != 1 or start.shape != end.shape:
        raise ValueError(
            'start and end must be (Z), of one length, got '
            f'{tuple(start.shape)} and {tuple(end.shape)}'
        )
    one, two = start.double(), end.double()
    cosine = one @ two / (one.norm() * two.norm())
    angle = cosine.clamp(-1, 1).arccos()
    t = torch.linspace(0, 1, steps).to(one)[:, None]
    back, forth = 1 - t, t
    if angle.sin() > 1e-6:
        back, forth = ((s * angle).sin() / angle.sin() for s in (back, forth))
    return (back * one + forth * two).to(start)


def to_pixels(images: Tensor) -> Tensor:
    """Turn values from -1 to 1 into uint8 from 0 to 255, of any shape."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
