"""A page on one layer: the photograph, and what the layer looks at in it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmea.errors import UserError
from mmea.maps import AttentionMaps

from .view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['draw_page', 'nearest_slots']

MAPS = 12  # on a page, at most
LIVE, DEAD = '#3b6fb6', '#c8452f'


def draw_page(
    view: View, maps: AttentionMaps, *, title: str = '', num_slots: int = MAPS
) -> 'Figure':
    """Draw a page on what a layer looks at.

    Of slots, the photograph, the maps of those with the largest shares over
    it, all shares, and how alike the slots are. Of a member whose pixels read
    pixels, the photograph with the pixel and, head by head, what it reads. Of
    a gate, its factors. Each map is coloured from 0 to its largest value.

    Args:
        view (View): Of :func:`look`.
        maps (AttentionMaps): One of ``view.maps``, for which ``maps.note`` is
            empty.
        title (str): Such as the layer's name. Default: ''.
        num_slots (int): Maps, at most. Default: 12.

    Returns:
        Figure: Of matplotlib, to be saved by its ``savefig``.

    Raises:
        UserError: There is nothing to draw; ``maps.note`` says why.
    """

    if maps.note:
        raise UserError(f'{title or maps.layer} is not drawn: {maps.note}')
    panels: list[tuple[str, np.ndarray]] = []
    if maps.attention is not None:
        panels = _slot_panels(maps, num_slots)
    if maps.reads is not None:
        panels = _read_panels(maps, num_slots - bool(panels)) + panels
    if maps.gate is not None:
        panels = [('factor of each pixel', _numpy(maps.gate))]
    panels = panels[: max(num_slots, 1)]
    charts: list[Any] = []
    if maps.attention is not None:
        charts = [_draw_shares, _draw_similarity]
    elif maps.channel_gate is not None:
        charts = [_draw_channels]
    page = _Page(view.picture.shape[:2], len(panels), len(charts))
    figure = page.figure
    figure.suptitle(f'{title}  {maps.layer}'.strip(), fontsize=12, y=page.top)
    _draw_photograph(page.photograph(), view, maps)
    for i, draw in enumerate(charts):
        draw(page.chart(i), maps)
    for i, (name, values) in enumerate(panels):
        axes = page.map(i)
        _draw_map(axes, view, name, values)
        if maps.reads is not None and not name.startswith('slot'):
            _zoom(axes, view.lay(values))
            _mark_pixel(axes, view)
    return figure


class _Page:
    """Where things stand, in inches: a column with charts, and the maps."""

    width, side, gap, title, chart_height = 12.0, 3.0, 0.15, 0.28, 2.0

    def __init__(self, size: tuple[int, int], maps: int, charts: int) -> None:
        from matplotlib.figure import Figure

        self.ratio = size[0] / size[1]
        self.photo = min(self.side, 4.0 / self.ratio)  # its width
        left = self.photo * self.ratio + self.title
        left += charts * (self.chart_height + 2 * self.title)
        # As many columns as make the maps about as tall as what is beside.
        self.columns = min(
            (2, 3, 4), key=lambda n: abs(self._maps_height(n, maps) - left)
        )
        right = self._maps_height(self.columns, maps)
        self.height = min(max(left, right), 40.0) + 0.6
        self.top = 1 - 0.12 / self.height
        self.figure = Figure((self.width, self.height))

    def _map_width(self, columns: int) -> float:
        left = self.width - self.side - 0.8
        return left / columns - self.gap

    def _maps_height(self, columns: int, maps: int) -> float:
        rows = -(-maps // columns)
        return rows * (self._map_width(columns) * self.ratio + self.title)

    def _add(self, x: float, y: float, wide: float, tall: float) -> 'Axes':
        """Add axes, whose upper left corner is x, y below the heading."""
        bottom = self.height - 0.4 - self.title - y - tall
        across, up = self.width, self.height
        return self.figure.add_axes(
            (x / across, bottom / up, wide / across, tall / up)
        )

    def photograph(self) -> 'Axes':
        return self._add(
            0.5 + (self.side - self.photo) / 2,
            0,
            self.photo,
            self.photo * self.ratio,
        )

    def chart(self, i: int) -> 'Axes':
        y = self.photo * self.ratio + 2 * self.title
        y += i * (self.chart_height + 2 * self.title)
        return self._add(0.5, y, self.side, self.chart_height)

    def map(self, i: int) -> 'Axes':
        row, column = divmod(i, self.columns)
        wide = self._map_width(self.columns)
        tall = wide * self.ratio
        x = self.side + 0.8 + column * (wide + self.gap)
        return self._add(x, row * (tall + self.title), wide, tall)


def nearest_slots(maps: AttentionMaps) -> tuple[np.ndarray, np.ndarray]:
    """Find for each slot the one that is most like it, and how alike.

    By the key memory, where there is one, else by the maps.
    """
    alike = _similarity(maps).copy()
    np.fill_diagonal(alike, -np.inf)
    return alike.argmax(1), alike.max(1)


def _numpy(values: Tensor) -> np.ndarray:
    """Take the only image of a batch."""
    return values[0].float().cpu().numpy()


def _similarity(maps: AttentionMaps) -> np.ndarray:
    keys = maps.key_similarity
    return _numpy(maps.map_similarity if keys is None else keys[None])


def _order(maps: AttentionMaps) -> np.ndarray:
    """Slots, the strongest first."""
    return np.argsort(-_numpy(maps.shares), kind='stable')


def _slot_panels(
    maps: AttentionMaps, number: int
) -> list[tuple[str, np.ndarray]]:
    slots, shares = _numpy(maps.slots), _numpy(maps.shares)
    return [
        (f'slot {i}: {shares[i]:.1%}', slots[i]) for i in _order(maps)[:number]
    ]


def _read_panels(
    maps: AttentionMaps, number: int
) -> list[tuple[str, np.ndarray]]:
    heads = _numpy(maps.reads)  # type: ignore[arg-type]
    if len(heads) == 1:
        return [('the pixel reads', heads[0])]
    panels = [('mean of the heads', heads.mean(0))]
    if maps.attention is None:
        panels += [(f'head {i}', head) for i, head in enumerate(heads)]
    return panels[: max(number, 1)]


def _draw_photograph(axes: 'Axes', view: View, maps: AttentionMaps) -> None:
    axes.imshow(view.picture)
    axes.set_axis_off()
    height, width = view.picture.shape[:2]
    axes.set_title(f'photograph, {width} x {height}', fontsize=9)
    if maps.reads is not None:
        _mark_pixel(axes, view)


def _mark_pixel(axes: 'Axes', view: View) -> None:
    for colour, wide in (('black', 2.4), ('white', 1.2)):
        axes.plot(
            *view.pixel,
            marker='o',
            color='none',
            markeredgecolor=colour,
            markeredgewidth=wide,
            markersize=9,
        )


def _zoom(axes: 'Axes', laid: np.ndarray) -> None:
    """Show what is around a window that is small beside the photograph."""
    rows, columns = np.nonzero(np.nan_to_num(laid))
    if not len(rows):
        return
    height, width = laid.shape
    part = 1.5 * max(np.ptp(rows) / height, np.ptp(columns) / width)
    if part > 0.5:
        return
    (left, right), (top, bottom) = (
        (low - 0.5, low + part * size - 0.5)
        for places, size in ((columns, width), (rows, height))
        for middle in [(places.min() + places.max()) / 2]
        for low in [np.clip(middle - part * size / 2, 0, size * (1 - part))]
    )
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _draw_map(axes: 'Axes', view: View, name: str, values: np.ndarray) -> None:
    """Lay a map over the grey photograph, the clearer the larger it is."""
    import matplotlib

    laid = view.lay(values)
    top = float(np.nanmax(laid))
    strength = np.clip(np.nan_to_num(laid) / max(top, 1e-12), 0, 1)[..., None]
    grey = view.picture.mean(2, keepdims=True) / 255
    # What the net does not see is paler.
    base = np.where(np.isnan(laid)[..., None], 0.8, 0.3) * (1 - grey) + grey
    colours = matplotlib.colormaps['plasma'](strength[..., 0])[..., :3]
    opacity = 0.75 * strength**0.5
    axes.imshow((base * (1 - opacity) + colours * opacity).clip(0, 1))
    axes.set_axis_off()
    largest = f'{top:.0%}' if name.startswith('slot') else f'{top:.2g}'
    axes.set_title(f'{name}, up to {largest}', fontsize=9)


def _draw_shares(axes: 'Axes', maps: AttentionMaps) -> None:
    order, shares = _order(maps), _numpy(maps.shares)
    dead = _numpy(maps.dead()).astype(bool)
    heights = shares[order] * 100
    axes.bar(
        range(len(order)),
        heights,
        width=0.9,
        color=[DEAD if dead[i] else LIVE for i in order],
    )
    even = 100 / len(order)
    axes.axhline(even, color='grey', linewidth=0.8, linestyle='--')
    # A dead slot has no height to be seen by.
    found = np.flatnonzero(dead[order])
    axes.plot(
        found,
        np.full(len(found), -0.04),
        'x',
        color=DEAD,
        markersize=4,
        clip_on=False,
        transform=axes.get_xaxis_transform(),
    )
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_xticks([])
    axes.set_ylabel('share in %', fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(
        f'shares of {len(order)} slots, {dead.sum()} dead (x); -- even',
        fontsize=9,
    )


def _draw_similarity(axes: 'Axes', maps: AttentionMaps) -> None:
    order = _order(maps)
    alike = _similarity(maps)[order][:, order]
    image = axes.imshow(alike, cmap='RdBu_r', vmin=-1, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    of = 'maps' if maps.keys is None else 'keys'
    axes.set_title(f'cosines of the {of} of slots', fontsize=9)
    beside = axes.inset_axes((1.04, 0, 0.06, 1))
    bar = axes.figure.colorbar(image, cax=beside, ticks=(-1, 0, 1))
    bar.ax.tick_params(labelsize=8)


def _draw_channels(axes: 'Axes', maps: AttentionMaps) -> None:
    gate = np.sort(_numpy(maps.channel_gate))[::-1]  # type: ignore[arg-type]
    axes.bar(range(len(gate)), gate, width=1, color=LIVE)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.tick_params(labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(f'factors of {len(gate)} channels, sorted', fontsize=9)
