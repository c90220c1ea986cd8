"""Small rendered scenes, for training on the first day and for tests.

A scene is a picture of a toy world with its segmentation. Its classes are
made to need context: several of them share one material, and their colours
in a scene are drawn from one distribution and dealt out in random order.
Sky and sea look alike, and so do tree and grass, or building, road and
mountain; a car on water is a boat. Only the place in the picture tells.

Each data set layout is one table in :data:`WORLDS`; all of them are drawn
by the same renderer from the same shapes and materials.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ['Instance', 'Scene', 'WORLDS', 'render_scene', 'scene_classes']

MIN_SIDE = 32  # below it objects are smaller than a stride-4 cell

# Ranges of hue, saturation and value; all in [0, 1].
COLOURS = dict(
    air=((0.52, 0.63), (0.15, 0.55), (0.55, 0.95)),
    leaf=((0.20, 0.36), (0.35, 0.70), (0.30, 0.75)),
    stone=((0.03, 0.14), (0.03, 0.22), (0.35, 0.85)),
    paint=((0.00, 1.00), (0.55, 0.95), (0.45, 0.95)),
    fur=((0.04, 0.12), (0.03, 0.25), (0.75, 1.00)),
    skin=((0.04, 0.08), (0.30, 0.55), (0.40, 0.90)),
    wood=((0.05, 0.10), (0.40, 0.70), (0.20, 0.40)),
    glass=((0.55, 0.65), (0.10, 0.30), (0.15, 0.35)),
)

# The materials that several classes share: cells of their texture along
# (height, width) of a square picture. Air comes in flat streaks.
TEXTURES = dict(air=(14, 3), leaf=(26, 26), stone=(12, 12))


@dataclass
class Instance:
    """One visible object of a scene.

    Attributes:
        label (int): Index into ``scene_classes(layout)``.
        mask (ndarray): bool (H, W), the visible pixels only.
    """

    label: int
    mask: np.ndarray

    @property
    def bbox(self):
        """tuple: COCO box (x, y, width, height) of the mask in pixels."""
        rows = np.flatnonzero(self.mask.any(1))
        cols = np.flatnonzero(self.mask.any(0))
        return (
            int(cols[0]),
            int(rows[0]),
            int(cols[-1] - cols[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )

    @property
    def polygons(self):
        """list[ndarray]: COCO polygons, float (P, 2) as (x, y) in pixels.

        One for each connected part. They enclose exactly the centres of the
        mask's pixels; only a hole in the mask is lost, as always in COCO
        polygons.
        """
        # Four samples per pixel: the outline runs between the pixel centres
        # and a part one pixel wide keeps an area.
        fine = self.mask.repeat(2, 0).repeat(2, 1).astype(np.uint8)
        outlines, _ = cv2.findContours(
            fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        return [(outline.reshape(-1, 2) + 0.5) / 2 for outline in outlines]


@dataclass
class Scene:
    """A picture and what is on it.

    Attributes:
        image (ndarray): uint8 (H, W, 3), RGB.
        labels (ndarray): uint8 (H, W), indices into
            ``scene_classes(layout)``.
        instances (list[Instance]): The objects from far to near, those with
            at least one visible pixel.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: list[Instance]


@dataclass(frozen=True)
class _View:
    """Where the eye is. Unit: the shorter side of the picture."""

    x: np.ndarray  # (1, W), pixel centres
    y: np.ndarray  # (H, 1)
    horizon: float
    vanishing: float  # x of the point in which roads end

    @property
    def width(self):
        return self.x.size / min(self.x.size, self.y.size)

    @property
    def height(self):
        return self.y.size / min(self.x.size, self.y.size)

    @property
    def depth(self):
        """(H, 1): 0 at the horizon, 1 at the lower edge, below 0 in air."""
        return (self.y - self.horizon) / (self.height - self.horizon)


# Stuff: shape(view, rng) -> (mask, detail), both bool (H, W). The detail is
# the part in another colour, None for none.


def _everywhere(view, rng):
    mask = np.full((view.y.size, view.x.size), True)
    return mask, None


def _ground(view, rng):
    mask = (view.depth > 0) & (view.x > -1)
    return mask, None


def _ridge(view, rng):
    peaks = rng.uniform(0, 1, 6 + int(3 * view.width))
    line = np.interp(view.x, np.linspace(0, view.width, peaks.size), peaks)
    top = view.horizon - rng.uniform(0.12, 0.3) * line - 0.03
    mask = (view.y > top) & (view.depth <= 0)
    return mask, None


def _shore(view, rng):
    """One side of a wavy line through the middle of the ground."""
    angle = rng.uniform(0, 2 * np.pi)
    x = view.x - view.width * rng.uniform(0.3, 0.7)
    y = (view.depth - rng.uniform(0.3, 0.6)) * (view.height - view.horizon)
    wave = 0.02 * np.sin(rng.uniform(8, 16) * (view.x + view.y))
    mask = (np.cos(angle) * x + np.sin(angle) * y > wave) & (view.depth > 0)
    return mask, None


def _strip(view, rng, width=0.35, marked=True):
    """A band that runs from the lower edge into the vanishing point."""
    near = view.width * 0.5 + (view.vanishing - view.width * 0.5) * -0.3
    across = view.x - view.vanishing - (near - view.vanishing) * view.depth
    half = 0.03 + (width - 0.03) * view.depth
    mask = (np.abs(across) < half) & (view.depth > 0)
    dashes = np.sin(40 * np.sqrt(np.maximum(view.depth, 0))) > 0
    middle = np.abs(across) < 0.07 * half
    return mask, mask & dashes & middle if marked else None


def _wide_strip(view, rng):
    return _strip(view, rng, width=0.6)


def _broad_strip(view, rng):
    return _strip(view, rng, width=1.0, marked=False)


# Things: shape(u, v, rng) -> (mask, detail), in the frame of the object:
# u from -1 to 1 over its width, v from 0 at its foot to 1 at its top.


def _vehicle(u, v, rng):
    lean = rng.choice([-1, 1]) * rng.uniform(0.05, 0.25)
    hull = (v >= 0) & (v < 0.58) & (np.abs(u) < 0.86 + 0.22 * v)
    cabin = (v >= 0.5) & (v < 1) & (np.abs(u - lean) < 0.95 - 0.5 * v)
    pane = (v > 0.6) & (v < 0.88) & (np.abs(u - lean) < 0.8 - 0.5 * v)
    sill = (v >= 0) & (v < 0.12)
    pillar = np.abs(u - lean) < 0.05
    return hull | cabin, (pane & ~pillar) | (sill & hull)


def _bus(u, v, rng):
    box = (v >= 0) & (v < 1) & (np.abs(u) < 1)
    panes = (v > 0.5) & (v < 0.85) & (np.abs(u) < 0.93) & (u * 3 % 1 < 0.8)
    return box, box & (panes | (v < 0.1))


def _house(u, v, rng):
    wall = (v >= 0) & (v < 1) & (np.abs(u) < 1)
    floors, columns = rng.integers(3, 6), rng.integers(2, 4)
    windows = (v * floors % 1 > 0.45) & (u * columns % 1 > 0.5)
    return wall, wall & windows & (v > 0.1) & (v < 0.95)


def _tree(u, v, rng):
    trunk = (v >= 0) & (v < 0.4) & (np.abs(u) < 0.14)
    crown = np.zeros_like(trunk)
    for _ in range(5):
        du, dv = rng.uniform(-0.4, 0.4), rng.uniform(0.5, 0.75)
        radius = rng.uniform(0.4, 0.6)
        crown |= ((u - du) / radius) ** 2 + ((v - dv) / radius * 2) ** 2 < 1
    return trunk | crown, trunk & ~crown


def _person(u, v, rng):
    head = (u / 0.52) ** 2 + ((v - 0.87) / 0.13) ** 2 < 1
    torso = (v > 0.4) & (v < 0.78) & (np.abs(u) < 0.95)
    legs = (v >= 0) & (v <= 0.42) & (np.abs(u) < 0.72)
    return head | torso | legs, head


def _animal(u, v, rng):
    side = rng.choice([-1, 1])
    body = ((u + 0.15 * side) / 0.85) ** 2 + ((v - 0.4) / 0.4) ** 2 < 1
    head = ((u - 0.68 * side) / 0.34) ** 2 + ((v - 0.72) / 0.28) ** 2 < 1
    return body | head, head


def _bicycle(u, v, rng):
    wheels = (np.abs(u) - 0.55) ** 2 + (1.25 * (v - 0.36)) ** 2 < 0.45**2
    frame = (v > 0.3) & (v < 0.85) & (np.abs(u) < 0.55)
    return wheels | frame, wheels & ~frame


@dataclass(frozen=True)
class Stuff:
    """A region. Later rows of a table are painted over earlier ones."""

    name: str
    shape: Callable
    material: str
    chance: float = 1.0  # of being in a scene


@dataclass(frozen=True)
class Thing:
    """A kind of object. Sizes are fractions of the picture's shorter side.

    ``on`` names the regions that it stands on, ``depth`` how far between
    horizon (0) and viewer (1); in the sky it flies at any height.
    """

    name: str
    shape: Callable
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


def _thing(shape, material, detail, height, aspect, **common):

    def make(name, on, count, **kwargs):
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
_walker = _thing(_person, 'paint', 'skin', (0.28, 0.38), (0.42, 0.50))
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
            _walker('person', _LAND, (0, 3)),
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
            _walker('person', ('sidewalk', 'terrain'), (0, 2)),
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
            _walker('person', _LAND, (0, 2)),
        ),
    ),
)


def scene_classes(layout):
    """Names of the classes that a layout's scenes show.

    Args:
        layout (str): A key of :data:`WORLDS`.

    Returns:
        tuple[str]: Names as the real data set spells them; the labels of
        :class:`Scene` are indices into it.

    Raises:
        ValueError: ``layout`` is unknown.
    """
    if layout not in WORLDS:
        raise ValueError(
            f'layout must be one of {sorted(WORLDS)}, got {layout=}'
        )
    return WORLDS[layout].classes


def check_at_least(low, **numbers):
    """Raise ValueError for a number that is no integer or below ``low``."""
    for name, number in numbers.items():
        if number < low or number != int(number):
            raise ValueError(
                f'{name} must be an integer, at least {low}, got {number}'
            )


def check_size(size):
    """Raise ValueError unless size is (H, W) in pixels, large enough."""
    if len(size) != 2 or any(
        side < MIN_SIDE or side != int(side) for side in size
    ):
        raise ValueError(
            f'size must be (H, W), two integers of at least '
            f'{MIN_SIDE} pixels, got {size=}'
        )


def _colour(rng, family):
    """One RGB colour of a family, float (3, ), 0 to 255."""
    hsv = [rng.uniform(low, high) for low, high in COLOURS[family]]
    return 255 * np.array(colorsys.hsv_to_rgb(*hsv))


def _apart(rng, family, num, distance=30.0):
    """``num`` colours of a family, each pair at least ``distance`` apart.

    The rule is the same for every order of the colours, so each of them has
    the same distribution: which class got which says nothing.
    """
    while True:
        colours = np.array([_colour(rng, family) for _ in range(num)])
        gaps = np.linalg.norm(colours[:, None] - colours, axis=-1)
        if num < 2 or gaps[np.triu_indices(num, 1)].min() >= distance:
            return colours


def _texture(rng, view, cells):
    """Smooth noise, float32 (H, W), about -1 to 1."""
    size = view.x.size, view.y.size
    out = np.zeros(size[::-1], np.float32)
    for octave, weight in ((1, 0.6), (2, 0.4)):
        shape = [
            int(np.ceil(n * side)) * octave + 1
            for n, side in zip(cells, (view.height, view.width))
        ]
        grid = rng.uniform(-1, 1, shape).astype(np.float32)
        out += weight * cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return out


class _Painter:
    """The canvas of one scene, with its colours and its light."""

    def __init__(self, world, view, rng):
        self.world, self.view, self.rng = world, view, rng
        shape = view.y.size, view.x.size
        self.image = np.zeros((*shape, 3), np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.owner = np.zeros(shape, np.int32)  # 0, or 1 + place in .things
        self.things = []  # class indices
        self.mark = _colour(rng, 'glass') + rng.choice([0, 150])
        self.colours, self.textures = {}, {}
        for material, cells in TEXTURES.items():
            names = sorted(
                {
                    row.name
                    for row in world.stuff + world.things
                    if row.material == material
                }
            )
            self.colours.update(zip(names, _apart(rng, material, len(names))))
            self.textures.update(
                (name, rng.uniform(8, 18) * _texture(rng, view, cells))
                for name in names
            )

    def _fill(self, row, mask, detail, colour, detail_colour):
        texture = self.textures.get(row.name, np.zeros(mask.shape))
        self.image[mask] = colour + texture[mask][:, None]
        if detail is not None:
            self.image[detail] = detail_colour
        classes = self.world.classes
        label = classes.index(row.name) if row.name in classes else 0
        self.labels[mask] = label
        return label

    def region(self, row):
        """Paint one row of stuff; returns its mask."""
        mask, detail = row.shape(self.view, self.rng)
        self._fill(row, mask, detail, self.colours[row.name], self.mark)
        return mask

    def thing(self, row, x, foot, height):
        """Paint one object that stands at (x, foot)."""
        rng, view = self.rng, self.view
        half = height * rng.uniform(*row.aspect) / 2
        u, v = (view.x - x) / half, (foot - view.y) / height
        mask, detail = row.shape(u, v, rng)
        colour = self.colours.get(row.name)
        if colour is None:
            colour = _colour(rng, row.material)
        detail_colour = (
            self.mark if row.detail == 'mark' else _colour(rng, row.detail)
        )
        if 'sky' not in row.on:
            self.image[(u / 1.1) ** 2 + (v / 0.1) ** 2 < 1] *= 0.75  # shadow
        label = self._fill(row, mask, detail, colour, detail_colour)
        self.things.append(label)
        self.owner[mask] = len(self.things)

    def finish(self):
        """Light, lens and sensor, then the scene."""
        rng, image = self.rng, self.image
        image *= rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
        image += rng.normal(0, rng.uniform(2, 6), image.shape)
        present = np.unique(self.owner)
        return Scene(
            image.clip(0, 255).round().astype(np.uint8),
            self.labels,
            [
                Instance(self.things[number - 1], self.owner == number)
                for number in present[present > 0]
            ],
        )


def _place(row, view, ground, rng):
    """Feet of the objects of one row: list of (foot, x, height).

    ``ground`` is the bool (H, W) mask of what they may stand on.
    """
    depth = np.broadcast_to(view.depth, ground.shape)
    low, high = row.depth
    # In the air with room for the whole object.
    flying = (depth < 0) & (view.y > row.height[1]) & ('sky' in row.on)
    spots = np.argwhere(ground & ((depth > low) & (depth < high) | flying))
    area = view.width * view.height
    num = round(area * rng.integers(row.count[0], row.count[1] + 1))
    feet = []
    for _ in range(num if len(spots) else 0):
        height = rng.uniform(*row.height)
        for line, column in rng.permutation(spots)[:12]:
            # Both ends stand on it too, or the place would prove nothing.
            half = height * row.aspect[1] / 2 * min(ground.shape)
            ends = np.array([column - half, column + half]).astype(int)
            ends = ends.clip(0, ground.shape[1] - 1)
            if ground[line, ends].all():
                near = 0.8 + 0.4 * max(depth[line, 0], 0)
                feet.append(
                    (view.y[line, 0], view.x[0, column], height * near)
                )
                break
    return feet


def render_scene(layout, index, *, size=(128, 128), seed=0):
    """Render one scene of a layout's world.

    The same arguments give the same arrays.

    Args:
        layout (str): A key of :data:`WORLDS`.
        index (int): Number of the scene, at least 0.
        size (tuple[int]): (H, W) in pixels, each at least 32.
            Default: (128, 128).
        seed (int): At least 0. Another seed, other scenes. Default: 0.

    Returns:
        Scene: The picture, its labels and its objects.

    Raises:
        ValueError: An argument is out of the range given above.
    """
    scene_classes(layout)
    check_at_least(0, index=index, seed=seed)
    check_size(size)
    world, rng = WORLDS[layout], np.random.default_rng([seed, index])
    rows, cols = size
    unit = min(size)
    view = _View(
        x=(np.arange(cols)[None] + 0.5) / unit,
        y=(np.arange(rows)[:, None] + 0.5) / unit,
        horizon=rows / unit * rng.uniform(0.3, 0.5),
        vanishing=cols / unit * rng.uniform(0.3, 0.7),
    )
    painter = _Painter(world, view, rng)
    regions = {row.name: np.zeros(size, bool) for row in world.stuff}
    for row in world.stuff:
        if rng.uniform() < row.chance:
            mask = painter.region(row)
            for other in regions.values():
                other &= ~mask
            regions[row.name] = mask
    feet = [
        (foot, x, height, row)
        for row in world.things
        for foot, x, height in _place(
            row, view, np.any([regions[name] for name in row.on], 0), rng
        )
    ]
    for foot, x, height, row in sorted(feet, key=lambda item: item[:3]):
        painter.thing(row, x, foot, height)
        if row.rider:
            painter.thing(
                _walker(row.rider, row.on, (1, 1)),
                x,
                foot - 0.5 * height,
                1.5 * height,
            )
    return painter.finish()
