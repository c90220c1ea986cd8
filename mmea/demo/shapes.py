"""What the demo scenes show: regions, objects and their shapes.

Each data set layout is one table in :data:`WORLDS`; all of them are drawn
by :mod:`mmea.demo.render` from the same shapes and materials.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = [
    'GROUNDS',
    'LONE_THINGS',
    'Stuff',
    'Thing',
    'View',
    'WORLDS',
    'World',
    'lone_world',
    'scene_classes',
    'walker',
]


@dataclass(frozen=True)
class View:
    """Where the eye is. Unit: the shorter side of the picture."""

    x: np.ndarray  # (1, W), pixel centres
    y: np.ndarray  # (H, 1)
    horizon: float
    vanishing: float  # x of the point in which roads end

    @property
    def width(self) -> float:
        return self.x.size / min(self.x.size, self.y.size)

    @property
    def height(self) -> float:
        return self.y.size / min(self.x.size, self.y.size)

    @property
    def depth(self) -> np.ndarray:
        """(H, 1): 0 at the horizon, 1 at the lower edge, below 0 in air."""
        return (self.y - self.horizon) / (self.height - self.horizon)


# Mask and detail, both bool (H, W). The detail is the part in another colour,
# None for none.
Shape = tuple[np.ndarray, np.ndarray | None]


# Stuff: where the eye is, and a generator, to a shape.


def _everywhere(view: View, rng: np.random.Generator) -> Shape:
    mask = np.full((view.y.size, view.x.size), True)
    return mask, None


def _ground(view: View, rng: np.random.Generator) -> Shape:
    mask = (view.depth > 0) & (view.x > -1)
    return mask, None


def _ridge(view: View, rng: np.random.Generator) -> Shape:
    peaks = rng.uniform(0, 1, 6 + int(3 * view.width))
    line = np.interp(view.x, np.linspace(0, view.width, peaks.size), peaks)
    top = view.horizon - rng.uniform(0.12, 0.3) * line - 0.03
    mask = (view.y > top) & (view.depth <= 0)
    return mask, None


def _shore(view: View, rng: np.random.Generator) -> Shape:
    """One side of a wavy line through the middle of the ground."""
    angle = rng.uniform(0, 2 * np.pi)
    x = view.x - view.width * rng.uniform(0.3, 0.7)
    y = (view.depth - rng.uniform(0.3, 0.6)) * (view.height - view.horizon)
    wave = 0.02 * np.sin(rng.uniform(8, 16) * (view.x + view.y))
    mask = (np.cos(angle) * x + np.sin(angle) * y > wave) & (view.depth > 0)
    return mask, None


def _strip(
    view: View,
    rng: np.random.Generator,
    width: float = 0.35,
    marked: bool = True,
) -> Shape:
    """Paint a band from the lower edge into the vanishing point."""
    near = view.width * 0.5 + (view.vanishing - view.width * 0.5) * -0.3
    across = view.x - view.vanishing - (near - view.vanishing) * view.depth
    half = 0.03 + (width - 0.03) * view.depth
    mask = (np.abs(across) < half) & (view.depth > 0)
    dashes = np.sin(40 * np.sqrt(np.maximum(view.depth, 0))) > 0
    middle = np.abs(across) < 0.07 * half
    return mask, mask & dashes & middle if marked else None


def _wide_strip(view: View, rng: np.random.Generator) -> Shape:
    return _strip(view, rng, width=0.6)


def _broad_strip(view: View, rng: np.random.Generator) -> Shape:
    return _strip(view, rng, width=1.0, marked=False)


# Things: in the frame of the object,
# u from -1 to 1 over its width, v from 0 at its foot to 1 at its top.


def _vehicle(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    lean = rng.choice([-1, 1]) * rng.uniform(0.05, 0.25)
    hull = (v >= 0) & (v < 0.58) & (np.abs(u) < 0.86 + 0.22 * v)
    cabin = (v >= 0.5) & (v < 1) & (np.abs(u - lean) < 0.95 - 0.5 * v)
    pane = (v > 0.6) & (v < 0.88) & (np.abs(u - lean) < 0.8 - 0.5 * v)
    sill = (v >= 0) & (v < 0.12)
    pillar = np.abs(u - lean) < 0.05
    return hull | cabin, (pane & ~pillar) | (sill & hull)


def _bus(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    box = (v >= 0) & (v < 1) & (np.abs(u) < 1)
    panes = (v > 0.5) & (v < 0.85) & (np.abs(u) < 0.93) & (u * 3 % 1 < 0.8)
    return box, box & (panes | (v < 0.1))


def _house(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    wall = (v >= 0) & (v < 1) & (np.abs(u) < 1)
    floors, columns = rng.integers(3, 6), rng.integers(2, 4)
    windows = (v * floors % 1 > 0.45) & (u * columns % 1 > 0.5)
    return wall, wall & windows & (v > 0.1) & (v < 0.95)


def _tree(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    trunk = (v >= 0) & (v < 0.4) & (np.abs(u) < 0.14)
    crown = np.zeros_like(trunk)
    for _ in range(5):
        du, dv = rng.uniform(-0.4, 0.4), rng.uniform(0.5, 0.75)
        radius = rng.uniform(0.4, 0.6)
        crown |= ((u - du) / radius) ** 2 + ((v - dv) / radius * 2) ** 2 < 1
    return trunk | crown, trunk & ~crown


def _person(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    head = (u / 0.52) ** 2 + ((v - 0.87) / 0.13) ** 2 < 1
    torso = (v > 0.4) & (v < 0.78) & (np.abs(u) < 0.95)
    legs = (v >= 0) & (v <= 0.42) & (np.abs(u) < 0.72)
    return head | torso | legs, head


def _animal(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    side = rng.choice([-1, 1])
    body = ((u + 0.15 * side) / 0.85) ** 2 + ((v - 0.4) / 0.4) ** 2 < 1
    head = ((u - 0.68 * side) / 0.34) ** 2 + ((v - 0.72) / 0.28) ** 2 < 1
    return body | head, head


def _bicycle(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> Shape:
    wheels = (np.abs(u) - 0.55) ** 2 + (1.25 * (v - 0.36)) ** 2 < 0.45**2
    frame = (v > 0.3) & (v < 0.85) & (np.abs(u) < 0.55)
    return wheels | frame, wheels & ~frame


@dataclass(frozen=True)
class Stuff:
    """A region. Later rows of a table are painted over earlier ones."""

    name: str
    shape: Callable[[View, np.random.Generator], Shape]
    material: str
    chance: float = 1.0  # of being in a scene


@dataclass(frozen=True)
class Thing:
    """A kind of object. Sizes are fractions of the picture's shorter side.

    ``on`` names the regions that it stands on, ``depth`` how far between
    horizon (0) and viewer (1); in the sky it flies at any height.
    """

    name: str
    shape: Callable[[np.ndarray, np.ndarray, np.random.Generator], Shape]
    material: str
    detail: str
    on: tuple[str, ...]
    count: tuple[int, int]  # in a square picture, both ends included
    height: tuple[float, float]
    aspect: tuple[float, float]  # width / height
    depth: tuple[float, float] = (0.05, 0.95)
    rider: str = ''  # class of the person on top of it


@dataclass(frozen=True)
class World:
    """One layout: regions and things whose name is no class are class 0."""

    classes: tuple[str, ...]
    stuff: tuple[Stuff, ...]
    things: tuple[Thing, ...]


def _thing(
    shape: Callable[[np.ndarray, np.ndarray, np.random.Generator], Shape],
    material: str,
    detail: str,
    height: tuple[float, float],
    aspect: tuple[float, float],
    **common: Any,
) -> Callable[..., Thing]:

    def make(
        name: str, on: tuple[str, ...], count: tuple[int, int], **kwargs: Any
    ) -> Thing:
        return Thing(
            name,
            shape,
            material,
            detail,
            on,
            count,
            height,
            aspect,
            **common,
            **kwargs,
        )

    return make


_building = _thing(
    _house, 'stone', 'mark', (0.3, 0.5), (0.6, 1.1), depth=(0.02, 0.25)
)
_green = _thing(
    _tree, 'leaf', 'wood', (0.28, 0.42), (0.7, 1.0), depth=(0.02, 0.5)
)
_car = _thing(_vehicle, 'paint', 'glass', (0.13, 0.2), (1.7, 2.1))
_coach = _thing(_bus, 'paint', 'glass', (0.24, 0.32), (1.4, 1.7))
walker = _thing(_person, 'paint', 'skin', (0.28, 0.38), (0.42, 0.50))
_beast = _thing(_animal, 'fur', 'wood', (0.18, 0.25), (1.3, 1.5))
_cycle = _thing(_bicycle, 'paint', 'glass', (0.17, 0.23), (1.4, 1.6))

_COAST = (
    Stuff('sky', _everywhere, 'air'),
    Stuff('mountain', _ridge, 'stone', chance=0.65),
    Stuff('grass', _ground, 'leaf'),
    Stuff('road', _strip, 'stone', chance=0.8),
    Stuff('sea', _shore, 'air', chance=0.85),
)
_STREET = (
    Stuff('sky', _everywhere, 'air'),
    Stuff('terrain', _ground, 'leaf'),
    Stuff('sidewalk', _broad_strip, 'stone'),
    Stuff('road', _wide_strip, 'stone'),
)
_LAND = ('grass', 'road')

WORLDS = dict(
    ade20k=World(
        classes=(
            'sky',
            'mountain',
            'grass',
            'road',
            'sea',
            'building',
            'tree',
            'car',
            'boat',
            'person',
        ),
        stuff=_COAST,
        things=(
            _building('building', ('grass',), (0, 2)),
            _green('tree', ('grass',), (0, 3)),
            _car('car', _LAND, (0, 3)),
            _car('boat', ('sea',), (1, 3)),
            walker('person', _LAND, (0, 3)),
        ),
    ),
    cityscapes=World(
        classes=(
            'road',
            'sidewalk',
            'building',
            'vegetation',
            'terrain',
            'sky',
            'person',
            'rider',
            'car',
            'bicycle',
        ),
        stuff=_STREET,
        things=(
            _building('building', ('terrain', 'sidewalk'), (1, 4)),
            _green('vegetation', ('terrain',), (0, 3)),
            _car('car', ('road',), (1, 2)),
            walker('person', ('sidewalk', 'terrain'), (0, 2)),
            _cycle('bicycle', ('sidewalk', 'road'), (0, 1), rider='rider'),
        ),
    ),
    voc=World(
        classes=(
            'background',
            'aeroplane',
            'bird',
            'boat',
            'bus',
            'car',
            'person',
            'sheep',
        ),
        stuff=_COAST,
        things=(
            _building('building', ('grass',), (0, 1)),
            _green('tree', ('grass',), (0, 1)),
            _car('aeroplane', ('sky',), (0, 2)),
            _car('boat', ('sea',), (0, 2)),
            _car('car', _LAND, (0, 2)),
            _coach('bus', _LAND, (0, 1)),
            _beast('bird', ('sky', 'sea'), (0, 2)),
            _beast('sheep', _LAND, (0, 2)),
            walker('person', _LAND, (0, 2)),
        ),
    ),
    # Objects count here, so some more of them than in VOC's.
    coco=World(
        classes=(
            'background',
            'person',
            'car',
            'airplane',
            'bus',
            'boat',
            'bird',
            'sheep',
        ),
        stuff=_COAST,
        things=(
            _building('building', ('grass',), (0, 1)),
            _green('tree', ('grass',), (0, 1)),
            _car('airplane', ('sky',), (0, 2)),
            _car('boat', ('sea',), (0, 2)),
            _car('car', _LAND, (0, 3)),
            _coach('bus', _LAND, (0, 1)),
            _beast('bird', ('sky', 'sea'), (0, 2)),
            _beast('sheep', _LAND, (0, 2)),
            walker('person', _LAND, (0, 3)),
        ),
    ),
)


# What may stand alone on any ground: as many things as grounds.
LONE_THINGS = dict(car=_car, sheep=_beast, person=walker)
GROUNDS = dict(grass='leaf', road='stone', sea='air')


def scene_classes(layout: str) -> tuple[str, ...]:
    """Names of the classes that a layout's scenes show.

    Args:
        layout (str): A key of :data:`WORLDS`.

    Returns:
        tuple[str, ...]: Names as the real data set spells them; the labels of
        :class:`Scene` are indices into it.

    Raises:
        ValueError: ``layout`` is unknown.
    """
    if layout not in WORLDS:
        raise ValueError(
            f'layout must be one of {sorted(WORLDS)}, got {layout=}'
        )
    return WORLDS[layout].classes


def lone_world(name: str, ground: str) -> World:
    """Make a world of one object, larger than elsewhere, on one ground.

    Args:
        name (str): A key of :data:`LONE_THINGS`.
        ground (str): A key of :data:`GROUNDS`.

    Returns:
        World: Its classes are ``('background', name)``.

    Raises:
        ValueError: ``name`` or ``ground`` is unknown.
    """
    if name not in LONE_THINGS:
        raise ValueError(
            f'name must be one of {sorted(LONE_THINGS)}, got {name=}'
        )
    if ground not in GROUNDS:
        raise ValueError(
            f'ground must be one of {sorted(GROUNDS)}, got {ground=}'
        )
    thing = LONE_THINGS[name](name, (ground,), (1, 1))
    low, high = thing.height
    return World(
        classes=('background', name),
        stuff=(
            Stuff('sky', _everywhere, 'air'),
            Stuff(ground, _ground, GROUNDS[ground]),
        ),
        things=(replace(thing, height=(1.5 * low, 1.5 * high)),),
    )
