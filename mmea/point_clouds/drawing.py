"""Views of clouds as a figure, and as a page on which they turn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .views import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['make_figure', 'make_page']

PAGE = Path(__file__).with_name('viewer.html')


def make_figure(views: Sequence[View]) -> 'Figure':
    """Draw clouds as seen from above a corner, with a legend each."""
    # Kept out of the module: matplotlib is slow to import.
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels = max(len(view.panels) for view in views)
    columns = min(3 if panels > 1 else 4, len(views))
    rows = -(-len(views) // columns)
    width, height = (3.7, 2.6) if panels > 1 else (2.6, 2.7)
    figure = Figure((width * columns, height * rows + 0.1))
    parts = figure.subfigures(rows, columns, squeeze=False)
    for part, view in zip(parts.flat, views):
        low, high = (0.19, 0.84) if panels > 1 else (0.02, 0.86)
        part.text(0.5, 0.985, view.title, ha='center', va='top', weight='bold')
        told = view.legend[0][1] if len(view.panels) == 1 else '#5b6777'
        part.text(0.5, 0.9, view.verdict, ha='center', va='top', color=told)
        for i, (title, places) in enumerate(view.panels.items()):
            share = 1 / len(view.panels)
            box = (i * share, low, share, high - low)
            axis = part.add_axes(box, projection='3d')
            axis.set_axis_off()
            axis.view_init(18, -60)
            axis.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75))
            axis.set_zlim(-0.75, 0.75)
            axis.set_box_aspect((1, 1, 1), zoom=1.2)
            axis.scatter(
                *view.points.T,
                c=[view.legend[place][1] for place in places],
                s=min(max(2000 / len(places), 1), 12),
                linewidths=0,
            )
            if len(view.panels) > 1:
                x = (i + 0.5) * share
                part.text(x, 0.14, title, ha='center', size='small')
        if len(view.panels) > 1:
            handles = [
                Line2D([], [], ls='', marker='o', color=colour, label=name)
                for name, colour in view.legend
            ]
            part.legend(
                handles=handles,
                loc='lower center',
                ncols=len(handles),
                frameon=False,
                fontsize='small',
                handletextpad=0,
                columnspacing=0.8,
            )
    return figure


def make_page(views: Sequence[View], title: str, told: str) -> str:
    """Write a page of HTML that stands alone, whose clouds turn by mouse.

    Args:
        views (Sequence[View]): The clouds.
        title (str): What was predicted with.
        told (str): A line below it, such as the metrics.
    """
    content = dict(
        title=title,
        told=told,
        views=[
            dict(
                title=view.title,
                verdict=view.verdict,
                points=(1000 * view.points).round().astype(int).tolist(),
                panels={t: p.tolist() for t, p in view.panels.items()},
                legend=view.legend,
            )
            for view in views
        ],
    )
    # In a script "</" might end it, and "<!--" change how it is read.
    text = json.dumps(content, separators=(',', ':')).replace('<', '\\u003c')
    return PAGE.read_text(encoding='utf-8').replace('"CONTENT"', text)
