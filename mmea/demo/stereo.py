"""Rendered stereo pairs, written as Scene Flow is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

__all__ = ['MAX_DISPARITY', 'Pair', 'render_pair', 'write_sceneflow']

#: Disparities of all pairs are below it, in pixels.
MAX_DISPARITY = 30.0
SHAPES = ('ellipse', 'box', 'bar', 'ring')


@dataclass
class Pair:
    """Two views and the disparity of each pixel of the left one.

    Attributes:
        left, right (np.ndarray): uint8 (H, W, 3), RGB.
        disparity (np.ndarray): float32 (H, W): left pixel x is right pixel
            x - disparity, if nothing hides it there.
    """

    left: np.ndarray
    right: np.ndarray
    disparity: np.ndarray


@dataclass
class _Surface:
    """A textured part of a plane: its disparity is a + b x + c y.

    ``inside`` and ``paint`` take coordinates of the left view, of any real
    value: both views are drawn of the same functions.
    """

    a: float
    b: float
    c: float
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray]
    paint: Callable[[np.ndarray, np.ndarray], np.ndarray]


def render_pair(
    index: int, *, size: tuple[int, int], seed: int = 0, noise: float = 3.0
) -> Pair:
    """Render a pair: a wall, a floor and shapes at various depths.

    Args:
        index (int): Number of the pair.
        size (tuple[int, int]): (H, W) in pixels.
        seed (int): The same numbers give the same pair. Default: 0.
        noise (float): Deviation of each view's own noise, in grey values; the
            brightness of the right one differs with it. Default: 3.

    Returns:
        Pair: With the exact disparity; what the right view does not show has
        one too.
    """
    rng = np.random.default_rng([seed, index, 2])
    surfaces = [_wall(rng, size), _floor(rng, size)]
    surfaces += [_shape(rng, size) for _ in range(rng.integers(5, 10))]
    left, disparity = _view(surfaces, size, right=False)
    right, _ = _view(surfaces, size, right=True)
    if noise:
        right = right * rng.uniform(1 - noise / 100, 1 + noise / 100)
        left = left + rng.normal(0, noise, left.shape)
        right = right + rng.normal(0, noise, right.shape)
    left, right = (
        view.round().clip(0, 255).astype(np.uint8) for view in (left, right)
    )
    return Pair(left, right, disparity.astype(np.float32))


def _view(
    surfaces: list[_Surface], size: tuple[int, int], *, right: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what is nearest at each pixel: colours and disparity."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    picture = np.zeros((height, width, 3))
    nearest = np.full((height, width), -np.inf)
    for s in surfaces:
        # Where the left view has what is here in the right one.
        seen = (x + s.a + s.c * y) / (1 - s.b) if right else x
        depth = s.a + s.b * seen + s.c * y
        front = s.inside(seen, y) & (depth > nearest)
        picture[front] = s.paint(seen, y)[front]
        nearest[front] = depth[front]
    return picture, nearest


def _wall(rng: np.random.Generator, size: tuple[int, int]) -> _Surface:
    b, c = rng.uniform(-2, 2, 2) / size[::-1]
    far = rng.uniform(5, 14)
    return _Surface(far, b, c, lambda x, y: x == x, _texture(rng))


def _floor(rng: np.random.Generator, size: tuple[int, int]) -> _Surface:
    """Make a level floor: from its far edge on, disparity grows with y."""
    height = size[0]
    edge = rng.uniform(0.5, 0.8) * height
    slope = rng.uniform(10, 18) / height
    far = rng.uniform(6, 15)
    return _Surface(
        far - slope * edge, 0.0, slope, lambda x, y: y > edge, _texture(rng)
    )


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> _Surface:
    height, width = size
    centre = rng.uniform(0, width), rng.uniform(0, height)
    radius = rng.uniform(0.08, 0.25) * height
    stretch = rng.uniform(0.6, 1.8)
    angle = rng.uniform(0, np.pi)
    kind = SHAPES[rng.integers(len(SHAPES))]
    # At most 3 pixels from the middle, wherever the shape is.
    b, c = rng.uniform(-1, 1, 2) / (2 * max(1, stretch) * radius)
    middle = rng.uniform(9, MAX_DISPARITY - 3)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - centre[0], y - centre[1]
        u = (np.cos(angle) * dx + np.sin(angle) * dy) / (radius * stretch)
        v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
        if kind == 'box':
            return np.maximum(abs(u), abs(v)) < 0.9
        if kind == 'bar':
            return (abs(u) < 1) & (abs(v) < 0.2)
        distance = np.hypot(u, v)
        return (distance < 1) & ((kind == 'ellipse') | (distance > 0.6))

    return _Surface(
        middle - b * centre[0] - c * centre[1], b, c, inside, _texture(rng)
    )


def _texture(
    rng: np.random.Generator,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Make a colour of every point, by noise of several sizes."""
    side = 128
    colours = np.tile(rng.uniform(80, 175, 3), (side, side, 1))
    for cells, depth in ((6, 40), (13, 60), (26, 40), (52, 20)):
        noise = rng.uniform(-depth, depth, (cells, cells, 3))
        colours = colours + cv2.resize(
            noise, (side, side), interpolation=cv2.INTER_CUBIC
        )
    if rng.uniform() < 0.2:
        period = rng.integers(12, 24)
        wave = np.sin(2 * np.pi * np.arange(side) / period)
        colours += 40 * np.sign(wave)[:, None]
    colours = colours.clip(0, 255).astype(np.float32)
    angle, zoom = rng.uniform(0, np.pi), rng.uniform(0.7, 1.2)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    offset = rng.uniform(0, side, 2)

    def paint(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return cv2.remap(
            colours,
            (cos * x + sin * y + offset[0]).astype(np.float32),
            (cos * y - sin * x + offset[1]).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )

    return paint


def write_sceneflow(root: Path, split: str, number: int, pair: Pair) -> None:
    """Write a pair as FlyingThings3D has them; 'val' is its TEST."""
    scene = f'{dict(train="TRAIN", val="TEST")[split]}/A/{number:04d}'
    for side, image in (('left', pair.left), ('right', pair.right)):
        path = root / f'frames_cleanpass/{scene}/{side}/0006.png'
        path.parent.mkdir(parents=True)
        Image.fromarray(image).save(path)
    path = root / f'disparity/{scene}/left/0006.pfm'
    path.parent.mkdir(parents=True)
    height, width = pair.disparity.shape
    head = f'Pf\n{width} {height}\n-1.0\n'.encode()
    # Rows from the lowest on; a negative scale says little-endian.
    path.write_bytes(head + pair.disparity[::-1].astype('<f4').tobytes())
