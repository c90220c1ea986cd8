"""Colours for classes."""

import cv2
import numpy as np

__all__ = ['make_palette']

#: Values of each channel to choose from.
STEPS = np.linspace(0, 255, 16)


def make_palette(
    number: int, background: bool = True
) -> list[tuple[int, ...]]:
    """Choose colours that differ, the same ones each time.

    Each is the farthest, in CIE Lab, from black, white and all before it, so
    that a longer palette begins as a shorter one.

    Args:
        number (int): Of classes.
        background (bool): Whether the first is black. Default: True.

    Returns:
        list[tuple[int, ...]]: RGB, 0 to 255; tuples, which mmdet needs.

    Source: the method of Glasbey et al., Color Research and Application 32
    (2007).
    """
    # Black and white are the first and the last of them.
    colours = np.stack(np.meshgrid(STEPS, STEPS, STEPS), -1).reshape(-1, 3)
    lab = cv2.cvtColor(
        (colours / 255).astype(np.float32)[None], cv2.COLOR_RGB2Lab
    )[0]
    apart = np.minimum(
        *(np.linalg.norm(lab - lab[i], axis=1) for i in (0, -1))
    )
    chosen = [0] * background
    while len(chosen) < number:
        chosen.append(int(apart.argmax()))
        new = np.linalg.norm(lab - lab[chosen[-1]], axis=1)
        apart = np.minimum(apart, new)
    return [tuple(round(c) for c in colours[i].tolist()) for i in chosen]
