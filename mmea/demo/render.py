"""Small rendered scenes, for training on the first day and for tests.

A scene is a picture of a toy world with its segmentation. Its classes are
made to need context: several of them share one material, and their colours
in a scene are drawn from one distribution and dealt out in random order.
Sky and sea look alike, and so do tree and grass, or building, road and
mountain; a car on water is a boat. Only the place in the picture tells.
What is on them is in :mod:`mmea.demo.shapes`.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import cv2
import numpy as np

from .shapes import (
    WORLDS,
    Stuff,
    Thing,
    View,
    World,
    lone_world,
    scene_classes,
    walker,
)

__all__ = [
    'FIRST_VAL',
    'Instance',
    'Scene',
    'check_at_least',
    'check_size',
    'render_lone',
    'render_object',
    'render_scene',
]

# Validation scenes count from here, so they are never training scenes and
# stay the same whatever the number of those.
FIRST_VAL = 2**20
MIN_SIDE = 32  # below it objects are smaller than a stride-4 cell
# Of a picture of one object: the share of it that must be seen, and how many
# scenes are looked through for such a view. Most have one.
MIN_SHARE = 0.02
TRIES = 64

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
        mask (np.ndarray): bool (H, W), the visible pixels only.
    """

    label: int
    mask: np.ndarray

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """COCO box (x, y, width, height) of the mask in pixels."""
        rows = np.flatnonzero(self.mask.any(1))
        cols = np.flatnonzero(self.mask.any(0))
        return (
            int(cols[0]),
            int(rows[0]),
            int(cols[-1] - cols[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )

    @property
    def polygons(self) -> list[np.ndarray]:
        """COCO polygons, float (P, 2) as (x, y) in pixels.

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
        image (np.ndarray): uint8 (H, W, 3), RGB.
        labels (np.ndarray): uint8 (H, W), indices into
            ``scene_classes(layout)``.
        instances (list[Instance]): The objects from far to near, those with
            at least one visible pixel.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: list[Instance]

    @property
    def main(self) -> Instance | None:
        """The largest of the objects with a class, if there is one."""
        return max(
            (instance for instance in self.instances if instance.label),
            key=lambda instance: instance.mask.sum(),
            default=None,
        )

    def crop(self, top: int, left: int, height: int, width: int) -> 'Scene':
        """Cut out the window of that size (pixels) at (top, left)."""
        window = np.s_[top : top + height, left : left + width]
        cut = [Instance(i.label, i.mask[window]) for i in self.instances]
        return Scene(
            self.image[window],
            self.labels[window],
            [instance for instance in cut if instance.mask.any()],
        )


def check_at_least(low: int, **numbers: int) -> None:
    """Raise ValueError for a number that is no integer or below ``low``."""
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < low:
            raise ValueError(
                f'{name} must be an integer, at least {low}, got {number}'
            )


def check_size(size: Sequence[int], sides: int = 2) -> None:
    """Raise ValueError unless size is (H, W), or (N,), and large enough."""
    if (
        not isinstance(size, Sequence)
        or len(size) != sides
        or any(not isinstance(n, Integral) or n < MIN_SIDE for n in size)
    ):
        form, unit = ('(H, W), two integers', 'pixels')
        if sides == 1:
            form, unit = ('(N,), one integer', 'points')
        raise ValueError(
            f'size must be {form} of at least {MIN_SIDE} {unit}, got {size=}'
        )


def _colour(rng: np.random.Generator, family: str) -> np.ndarray:
    """One RGB colour of a family, float (3, ), 0 to 255."""
    hsv = [rng.uniform(low, high) for low, high in COLOURS[family]]
    return 255 * np.array(colorsys.hsv_to_rgb(*hsv))


def _apart(
    rng: np.random.Generator, family: str, num: int, distance: float = 30.0
) -> np.ndarray:
    """``num`` colours of a family, each pair at least ``distance`` apart.

    The rule is the same for every order of the colours, so each of them has
    the same distribution: which class got which says nothing.
    """
    while True:
        colours = np.array([_colour(rng, family) for _ in range(num)])
        gaps = np.linalg.norm(colours[:, None] - colours, axis=-1)
        if num < 2 or gaps[np.triu_indices(num, 1)].min() >= distance:
            return colours


def _texture(
    rng: np.random.Generator, view: View, cells: tuple[int, int]
) -> np.ndarray:
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

    def __init__(
        self, world: World, view: View, rng: np.random.Generator
    ) -> None:
        self.world, self.view, self.rng = world, view, rng
        shape = view.y.size, view.x.size
        self.image = np.zeros((*shape, 3), np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.owner = np.zeros(shape, np.int32)  # 0, or 1 + place in .things
        self.things: list[int] = []  # class indices
        self.mark = _colour(rng, 'glass') + rng.choice([0, 150])
        self.colours: dict[str, np.ndarray] = {}
        self.textures: dict[str, np.ndarray] = {}
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

    def _fill(
        self,
        row: Stuff | Thing,
        mask: np.ndarray,
        detail: np.ndarray | None,
        colour: np.ndarray,
        detail_colour: np.ndarray,
    ) -> int:
        texture = self.textures.get(row.name, np.zeros(mask.shape))
        self.image[mask] = colour + texture[mask][:, None]
        if detail is not None:
            self.image[detail] = detail_colour
        classes = self.world.classes
        label = classes.index(row.name) if row.name in classes else 0
        self.labels[mask] = label
        return label

    def region(self, row: Stuff) -> np.ndarray:
        """Paint one row of stuff; returns its mask."""
        mask, detail = row.shape(self.view, self.rng)
        self._fill(row, mask, detail, self.colours[row.name], self.mark)
        return mask

    def thing(self, row: Thing, x: float, foot: float, height: float) -> None:
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

    def finish(self) -> Scene:
        """Light, lens and sensor, then the scene."""
        rng = self.rng
        image: Any = self.image  # cv2 and numpy name its type differently
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


def _place(
    row: Thing, view: View, ground: np.ndarray, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
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


def _render(
    world: World, index: int, size: tuple[int, int], seed: int
) -> Scene:
    check_at_least(0, index=index, seed=seed)
    check_size(size)
    rng = np.random.default_rng([seed, index])
    rows, cols = size
    unit = min(size)
    view = View(
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
    for foot, x, height, thing in sorted(feet, key=lambda item: item[:3]):
        painter.thing(thing, x, foot, height)
        if thing.rider:
            painter.thing(
                walker(thing.rider, thing.on, (1, 1)),
                x,
                foot - 0.5 * height,
                1.5 * height,
            )
    return painter.finish()


def render_scene(
    layout: str,
    index: int,
    *,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> Scene:
    """Render one scene of a layout's world.

    The same arguments give the same arrays.

    Args:
        layout (str): A key of :data:`WORLDS`.
        index (int): Number of the scene, at least 0.
        size (tuple[int, int]): (H, W) in pixels, each at least 32.
            Default: (128, 128).
        seed (int): At least 0. Another seed, other scenes. Default: 0.

    Returns:
        Scene: The picture, its labels and its objects.

    Raises:
        ValueError: An argument is out of the range given above.
    """
    scene_classes(layout)
    return _render(WORLDS[layout], index, size, seed)


def render_object(
    layout: str,
    name: str,
    index: int,
    *,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> Scene:
    """Render a picture whose main object is of a given class.

    A part of a scene that is larger by half, with the object in the middle
    where the edges allow it. No object of another class is there.

    The same arguments give the same arrays.

    Args:
        layout (str): A key of :data:`WORLDS`.
        name (str): A class of its objects, such as ``'car'``.
        index (int): Number of the picture, at least 0.
        size (tuple[int, int]): (H, W) in pixels, each at least 32.
            Default: (128, 128).
        seed (int): At least 0. Another seed, other pictures. Default: 0.

    Returns:
        Scene: The picture; its :attr:`Scene.main` is of the class ``name``.

    Raises:
        ValueError: An argument is out of the range given above.
    """
    classes = scene_classes(layout)
    world = WORLDS[layout]
    names = {row.name for row in world.things} & set(classes)
    if name not in names:
        raise ValueError(f'name must be one of {sorted(names)}, got {name=}')
    check_at_least(0, index=index, seed=seed)
    check_size(size)
    things = [
        replace(row, count=(1, 1), rider='') if row.name == name else row
        for row in world.things
        if row.name not in names - {name}
    ]
    world = replace(world, things=tuple(things))
    height, width = size
    whole = height * 3 // 2, width * 3 // 2
    for attempt in range(TRIES):
        # The place for it may be missing, or be hidden.
        scene = _render(world, index * TRIES + attempt, whole, seed)
        if scene.main is None:
            continue
        x, y, w, h = scene.main.bbox
        top = np.clip(y + (h - height) // 2, 0, whole[0] - height)
        left = np.clip(x + (w - width) // 2, 0, whole[1] - width)
        view = scene.crop(top, left, height, width)
        if view.main and view.main.mask.mean() >= MIN_SHARE:
            return view
    raise ValueError(
        f'none of {TRIES} scenes has room for {name!r} at {size=}; choose '
        'another size'
    )


def render_lone(
    name: str,
    ground: str,
    index: int,
    *,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> Scene:
    """Render one object, alone on a ground under the sky.

    The same arguments give the same arrays; the same index and seed do not
    mean the same place or colours on another ground.

    Args:
        name (str): One of :data:`LONE_THINGS`.
        ground (str): One of :data:`GROUNDS`.
        index (int): Number of the picture, at least 0.
        size (tuple[int, int]): (H, W) in pixels, each at least 32.
            Default: (64, 64).
        seed (int): At least 0. Another seed, other pictures. Default: 0.

    Returns:
        Scene: The picture; label 1 is the object.

    Raises:
        ValueError: An argument is out of the range given above.
    """
    return _render(lone_world(name, ground), index, size, seed)
