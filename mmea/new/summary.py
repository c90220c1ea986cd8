"""What there is in a data set, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ['Summary', 'show', 'spread']


@dataclass
class Summary:
    """One data set, counted.

    Attributes:
        name (str): Of the data set.
        images (int): Number of images.
        sizes (Sequence[tuple[int, int]]): (H, W) of those that were read.
        counts (Mapping[str, int]): Of each class, its pixels, boxes or
            images.
        unit (str): Of what the counts are: 'pixels', 'boxes' or 'images'.
        read (int): From how many images the counts are.
        warnings (list[str]): What looks odd.
    """

    name: str
    images: int
    sizes: Sequence[tuple[int, int]]
    counts: Mapping[str, int]
    unit: str
    read: int
    warnings: list[str] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Of each class, its part of the sum of all counts, 0 to 1."""
        total = sum(self.counts.values()) or 1
        return {name: n / total for name, n in self.counts.items()}


def median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the medians of heights and widths, each for itself."""
    heights, widths = (sorted(side) for side in zip(*sizes))
    return heights[len(heights) // 2], widths[len(widths) // 2]


def spread(total: int, number: int) -> list[int]:
    """Choose indices from all over a list: the first, the last, between."""
    if total <= number:
        return list(range(total))
    step = (total - 1) / max(number - 1, 1)
    return [round(i * step) for i in range(number)]


def show(summary: Summary, console: 'Console') -> None:
    """Print a table: images, sizes, classes; warnings below.

    Args:
        summary (Summary): Of one data set.
        console (Console): Of rich.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=summary.name,
        title_justify='left',
        show_header=False,
        box=box.SIMPLE_HEAD,
    )
    table.add_column()
    table.add_column(justify='right')
    table.add_row('images', f'{summary.images:,}')
    if summary.sizes:
        by_area = sorted(summary.sizes, key=lambda size: size[0] * size[1])
        for name, size in (
            ('smallest', by_area[0]),
            ('median', median_size(by_area)),
            ('largest', by_area[-1]),
        ):
            table.add_row(f'{name}, H x W', f'{size[0]} x {size[1]}')
    table.add_section()
    of = '' if summary.read == summary.images else f' in {summary.read} images'
    table.add_row('class', f'{summary.unit}{of}')
    for name, share in summary.shares.items():
        count = summary.counts[name]
        number = '' if summary.unit == 'pixels' else f'{count:,}, '
        table.add_row(escape(name), f'{number}{share:.1%}' if count else '-')
    console.print(table)
    for warning in summary.warnings:
        warn(warning, console)


def warn(text: str, console: 'Console') -> None:
    """Print a warning on one line of any length."""
    console.print(f'warning: {text}', markup=False, soft_wrap=True)
