"""Solids of parts, and clouds of points on their surfaces.

Parts of a solid look alike: the pole of a lamp and its arm are thin rods, so
are the legs of a chair and its arms; seat and back, or the top of a table and
its shelf, are boards. Which it is tells what is around it. Proportions are
drawn anew for each solid, and it is turned about the vertical, z.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ['PARTS', 'Cloud', 'render_solid']

Rng = np.random.Generator
#: Draws points (n, 3) of a surface, and its normals there.
Draw = Callable[[Rng, int], tuple[np.ndarray, np.ndarray]]
#: A surface: the part that it belongs to, its area, its points.
Piece = tuple[str, float, Draw]

NOISE = 0.01  # of the points, where a solid is some 2 high


@dataclass
class Cloud:
    """Points of a solid.

    Attributes:
        kind (str): A key of :data:`PARTS`.
        points (np.ndarray): (N, 3), z upwards.
        normals (np.ndarray): (N, 3), of length 1.
        parts (np.ndarray): (N,), places in ``PARTS[kind]``.
    """

    kind: str
    points: np.ndarray
    normals: np.ndarray
    parts: np.ndarray


def _face(
    part: str, corner: ArrayLike, side: ArrayLike, other: ArrayLike
) -> Piece:
    """Span a parallelogram, from a corner along two sides."""
    start, u, v = (np.asarray(x, float) for x in (corner, side, other))
    normal = np.cross(u, v)
    area = float(np.linalg.norm(normal))

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
        along = rng.random((2, n, 1))
        points = start + along[0] * u + along[1] * v
        return points, np.tile(normal / area, (n, 1))

    return part, area, draw


def _board(
    part: str, corner: np.ndarray, u: np.ndarray, v: np.ndarray, thick: float
) -> list[Piece]:
    """Span both sides of a board, the one that u x v looks from first."""
    normal = np.cross(u, v)
    behind = corner - thick * normal / np.linalg.norm(normal)
    return [_face(part, corner, u, v), _face(part, behind, v, u)]


def _box(part: str, low: ArrayLike, high: ArrayLike) -> list[Piece]:
    corner = np.asarray(low, float)
    sides = np.diag(np.asarray(high, float) - corner)
    faces = []
    for i in range(3):
        u, v = sides[(i + 1) % 3], sides[(i + 2) % 3]
        faces.append(_face(part, corner, v, u))
        faces.append(_face(part, corner + sides[i], u, v))
    return faces


def _tube(
    part: str, start: ArrayLike, end: ArrayLike, radius: float, tip: float
) -> Piece:
    """Turn a rod or a cone, its radius going over into ``tip``; no ends."""
    foot = np.asarray(start, float)
    axis = np.asarray(end, float) - foot
    length = float(np.linalg.norm(axis))
    axis = axis / length
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    slope = np.hypot(length, radius - tip)

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
        # As many as the radius is wide there.
        t = rng.random(n)
        if radius != tip:
            mixed = radius**2 + t * (tip**2 - radius**2)
            t = (np.sqrt(mixed) - radius) / (tip - radius)
        angle = 2 * np.pi * rng.random((n, 1))
        out = np.cos(angle) * side + np.sin(angle) * other
        reach = (radius + t * (tip - radius))[:, None]
        points = foot + t[:, None] * length * axis + reach * out
        return points, (length * out + (radius - tip) * axis) / slope

    return part, float(np.pi * (radius + tip) * slope), draw


def _rod(part: str, start: ArrayLike, end: ArrayLike, radius: float) -> Piece:
    return _tube(part, start, end, radius, radius)


def _disc(part: str, height: float, radius: float) -> Piece:
    """Lay a disc around the vertical, facing upwards."""

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
        angle, reach = 2 * np.pi * rng.random(n), radius * rng.random(n) ** 0.5
        points = [reach * np.cos(angle), reach * np.sin(angle)]
        up = np.tile([0.0, 0.0, 1.0], (n, 1))
        return np.stack([*points, np.full(n, height)], 1), up

    return part, float(np.pi * radius**2), draw


def _legs(rng: Rng, part: str, x: float, y: float, top: float) -> list[Piece]:
    radius = rng.uniform(0.06, 0.1)
    spread = rng.uniform(0, 0.15)
    return [
        _rod(
            part,
            [a * (x - radius), b * (y - radius), top],
            [a * (x - radius + spread), b * (y - radius + spread), 0],
            radius,
        )
        for a in (-1, 1)
        for b in (-1, 1)
    ]


def _chair(rng: Rng) -> list[Piece]:
    x, y, seat = rng.uniform([0.4, 0.4, 0.5], [0.6, 0.6, 1.0])
    back, thick = rng.uniform([0.6, 0.06], [1.1, 0.12])
    pieces = _box('seat', [-x, -y, seat], [x, y, seat + thick])
    corner = np.array([-x, y - thick, seat + thick])
    wide, high = np.array([[2 * x, 0, 0], [0, rng.uniform(0, 0.3), back]])
    pieces += _board('back', corner, wide, high, thick)
    pieces += _legs(rng, 'leg', x, y, seat)
    if rng.random() < 0.6:
        radius, rise = rng.uniform([0.04, 0.25], [0.07, 0.4])
        for side in (-x, x):
            low = [side, -0.8 * y, seat + thick]
            knee = [side, -0.8 * y, seat + thick + rise]
            pieces.append(_rod('arm', low, knee, radius))
            end = [side, y, seat + thick + rise]
            pieces.append(_rod('arm', knee, end, radius))
    return pieces


def _stool(rng: Rng) -> list[Piece]:
    x, y, seat, thick = rng.uniform(
        [0.4, 0.4, 0.9, 0.06], [0.6, 0.6, 1.6, 0.15]
    )
    board = _box('seat', [-x, -y, seat], [x, y, seat + thick])
    return board + _legs(rng, 'leg', x, y, seat)


def _table(rng: Rng) -> list[Piece]:
    x, y, top = rng.uniform([0.7, 0.5, 0.7], [1.3, 0.8, 1.3])
    thick = rng.uniform(0.06, 0.12)
    pieces = _box('top', [-x, -y, top], [x, y, top + thick])
    pieces += _legs(rng, 'leg', x, y, top)
    if rng.random() < 0.6:
        height, share = rng.uniform([0.15, 0.7], [0.5, 1.0])
        low = [-share * x, -share * y, height * top]
        high = [share * x, share * y, height * top + thick]
        pieces += _box('shelf', low, high)
    return pieces


def _lamp(rng: Rng) -> list[Piece]:
    foot, pole, radius = rng.uniform([0.3, 0.7, 0.04], [0.6, 1.4, 0.08])
    thick, rise = rng.uniform([0.04, 0.1], [0.1, 0.5])
    reach = rng.choice([0.0, rng.uniform(0.3, 0.8)])
    pieces = [
        _disc('foot', thick, foot),
        _rod('foot', [0, 0, 0], [0, 0, thick], foot),
        _rod('pole', [0, 0, thick], [0, 0, pole], radius),
    ]
    head = np.array([reach, 0, pole])
    if reach:
        head[2] += rise
        pieces.append(_rod('arm', [0, 0, pole], head, radius))
    wide, tip, high = rng.uniform([0.35, 0.1, 0.3], [0.6, 0.35, 0.6])
    ends = head - [0, 0, high / 2], head + [0, 0, high / 2]
    pieces.append(_tube('shade', *ends, wide, tip))
    return pieces


def _laptop(rng: Rng) -> list[Piece]:
    x, y, thick = rng.uniform([0.7, 0.5, 0.03], [1.0, 0.75, 0.08])
    angle = rng.uniform(0.9, 2.3)  # between the boards
    pieces = _box('keyboard', [-x, -y, 0], [x, y, thick])
    corner, wide = np.array([[-x, y, thick], [2 * x, 0, 0]])
    high = 2 * y * np.array([0, -np.cos(angle), np.sin(angle)])
    return pieces + _board('screen', corner, wide, high, thick)


def _mug(rng: Rng) -> list[Piece]:
    radius, tip, high = rng.uniform([0.4, 0.4, 0.8], [0.7, 0.7, 1.4])
    thick, out = rng.uniform([0.07, 0.25], [0.12, 0.5])
    pieces = [
        _disc('body', 0.02, radius),
        _tube('body', [0, 0, 0], [0, 0, high], radius, tip),
    ]
    angles = np.linspace(-np.pi / 2, np.pi / 2, 9)
    middle = (radius + tip) / 2
    ring = np.stack(
        [
            middle + out * np.cos(angles),
            0 * angles,
            high * (0.5 + 0.35 * np.sin(angles)),
        ],
        1,
    )
    pieces += [_rod('handle', a, b, thick) for a, b in zip(ring, ring[1:])]
    return pieces


def _rocket(rng: Rng) -> list[Piece]:
    radius, high, nose = rng.uniform([0.2, 0.9, 0.3], [0.4, 1.6, 0.8])
    pieces = [
        _rod('body', [0, 0, 0], [0, 0, high], radius),
        _tube('nose', [0, 0, high], [0, 0, high + nose], radius, 0.02),
    ]
    out, rise, sweep = rng.uniform([0.25, 0.3, -0.2], [0.5, 0.6, 0.1])
    number = rng.integers(3, 5)
    for angle in 2 * np.pi * np.arange(number) / number:
        way = np.array([np.cos(angle), np.sin(angle), 0])
        pieces.append(
            _face('fin', radius * way, out * way + [0, 0, sweep], [0, 0, rise])
        )
    return pieces


_SOLIDS = dict(
    chair=_chair,
    lamp=_lamp,
    laptop=_laptop,
    mug=_mug,
    rocket=_rocket,
    stool=_stool,
    table=_table,
)
#: Of each solid the names of its parts, in the order of their labels.
PARTS = dict(
    chair=('back', 'seat', 'leg', 'arm'),
    lamp=('foot', 'pole', 'shade', 'arm'),
    laptop=('keyboard', 'screen'),
    mug=('body', 'handle'),
    rocket=('body', 'fin', 'nose'),
    stool=('seat', 'leg'),
    table=('top', 'leg', 'shelf'),
)


def render_solid(kind: str, index: int, number: int, seed: int) -> Cloud:
    """Draw a cloud of a solid, evenly from its surfaces.

    Args:
        kind (str): A key of :data:`PARTS`.
        index (int): Which solid; the same one for the same ``seed``.
        number (int): Points N, in no order.
        seed (int): At least 0.

    Returns:
        Cloud: Of N points.
    """
    rng = np.random.default_rng([seed, index])
    pieces = _SOLIDS[kind](rng)
    areas = np.array([area for _, area, _ in pieces])
    counts = rng.multinomial(number, areas / areas.sum())
    drawn = [draw(rng, n) for (_, _, draw), n in zip(pieces, counts)]
    points, normals = (np.concatenate(rows) for rows in zip(*drawn))
    labels = [PARTS[kind].index(part) for part, _, _ in pieces]
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    points = points @ turn + NOISE * rng.standard_normal(points.shape)
    order = rng.permutation(number)
    return Cloud(
        kind,
        points[order],
        (normals @ turn)[order],
        np.repeat(labels, counts)[order],
    )
