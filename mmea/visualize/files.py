"""Pages and a table for photographs in files."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmea.errors import UserError
from mmea.files import whole
from mmea.inference import Predictor
from mmea.inference.inputs import Input
from mmea.maps import AttentionMaps

from .page import draw_page, nearest_slots
from .view import Maps, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['call_name', 'chosen', 'draw_files', 'make_progress', 'save_page',
           'tell', 'write_csv']  # fmt: skip

COLUMNS = 'image layer call slot share nearest similarity dead'.split()


def draw_files(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    pixel: tuple[float, float] | None = None,
    num_slots: int = 12,
    layers: Sequence[str] | None = None,
) -> list[str]:
    """Draw what a model looks at in photographs, a page for each layer.

    Into ``out`` go ``NAME/LAYER.png`` (``LAYER-2.png`` for the second call
    of a layer in one pass) and ``slots.csv``, a line for each slot.

    Args:
        predictor (Predictor): The model.
        inputs (Sequence[Input]): Of
            :func:`mmea.inference.inputs.find_inputs`, no videos.
        out (Path): A folder, made if it is missing.
        pixel (tuple[float, float] | None): X and y on the photographs.
            Default: None, the centre.
        num_slots (int): Maps on a page, at most. Default: 12.
        layers (Sequence[str] | None): Names of layers. Default: None, all.

    Returns:
        list[str]: What could not be read, a line for each. Which layers are
        not drawn, and why, is printed.

    Raises:
        UserError: The model has no such layer.
    """
    rows: list[tuple] = []
    broken: list[str] = []
    left_out: dict[str, None] = {}
    with make_progress('Looking') as progress:
        for source in progress.track(inputs, description=''):
            try:
                view = look(predictor, source.path, pixel=pixel)
            except UserError as error:
                broken.append(str(error))
                continue
            folder = out / source.name.with_suffix('')
            for name, call, maps in chosen(
                predictor, view.maps, layers, left_out
            ):
                file = f'{name}-{call}.png' if call > 1 else f'{name}.png'
                figure = draw_page(
                    view,
                    maps,
                    title=call_name(name, call),
                    num_slots=num_slots,
                )
                save_page(figure, folder / file)
                if maps.attention is not None:
                    where = source.name.as_posix(), name, call
                    rows += [(*where, *row) for row in _slot_rows(maps)]
    if len(broken) < len(inputs):
        write_csv(out / 'slots.csv', COLUMNS, rows)
    tell(left_out)
    return broken


def chosen(
    predictor: Predictor,
    maps: Maps,
    layers: Iterable[str] | None,
    left_out: dict[str, None],
) -> Iterator[tuple[str, int, AttentionMaps]]:
    """Yield name, number of the call (from 1) and maps of what can be drawn.

    Args:
        predictor (Predictor): Whose maps they are.
        maps (dict): Of one image.
        layers (Iterable[str] | None): Names; None, all.
        left_out (dict): Gets a line on each member that is not drawn.
    """
    if not maps:
        raise UserError(
            f'{predictor.cfg.filename} has no attention layer of mmea: '
            'nothing to draw (mmea train --swap-attention puts one in)'
        )
    for name in maps if layers is None else layers:
        if name not in maps:
            close = get_close_matches(name, maps, 3, 0) or list(maps)
            raise UserError(
                f'--layers {name}: no such attention layer; there is '
                f'{", ".join(close)}'
            )
        part = predictor.model.get_submodule(name)
        shown = name or type(part).__name__
        if not maps[name]:
            left_out[f'{shown}: not called in a prediction'] = None
        for call, seen in enumerate(maps[name], 1):
            note = seen.note
            if not getattr(part, 'padded', True):
                note = 'its maps are of regions, not of the photograph'
            if note:
                left_out[f'{shown}: {note}'] = None
            else:
                yield shown, call, seen


def call_name(name: str, call: int) -> str:
    """Tell the calls of a layer in one pass apart, as levels that share it."""
    return f'{name}, call {call}' if call > 1 else name


def _slot_rows(maps: AttentionMaps) -> list[tuple]:
    shares, dead = maps.shares[0].tolist(), maps.dead()[0].tolist()
    return [
        (i, f'{share:.6f}', near, f'{alike:.4f}', int(gone))
        for i, (share, near, alike, gone) in enumerate(
            zip(shares, *nearest_slots(maps), dead)
        )
    ]


def save_page(figure: 'Figure', path: Path) -> None:
    """Write a picture, whole or not at all."""
    with whole(path) as part:
        figure.savefig(part, dpi=100)


def write_csv(path: Path, columns: Sequence, rows: Iterable[Sequence]) -> None:
    """Write a table, whole or not at all."""
    with (
        whole(path) as part,
        open(part, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows(rows)


def tell(left_out: Iterable[str]) -> None:
    """Print which layers are not drawn."""
    for line in left_out:
        print(f'not drawn: {line}')


def make_progress(verb: str) -> Progress:
    """Make a bar on stderr: stdout is for tables."""
    return Progress(
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
