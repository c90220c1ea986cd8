"""Predict on files of any size, tile by tile."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mmea.engine.drawing import to_picture
from mmea.engine.lock import lock_folder
from mmea.errors import EXTRAS, UserError
from mmea.files import whole
from mmea.models.segmentors.tiled_run import TiledRun

from .files import noted
from .inputs import Input
from .predictor import Predictor
from .results import Labels
from .tiles import count_channels, segment_in_tiles
from .windows import (
    RASTERS,
    ArrayWindows,
    RasterWindows,
    Windows,
    as_windows,
    describe_file,
    is_upright,
)

__all__ = ['predict_files_in_tiles']

#: Where it stands how far the work is.
UNFINISHED = '.unfinished'
#: The longer side of an overlay, at most.
PICTURE = 2048
#: What a pipeline may do without being told of.
PLAIN = 'LoadImageFromFile', 'PackSegInputs'


def predict_files_in_tiles(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    core: int = 1024,
    **kwargs: Any,
) -> list[str]:
    """Segment photographs of any size, as :func:`.segment_in_tiles` does.

    Into ``out`` go the same as by :func:`~.files.predict_files`; overlays are
    made smaller, to 2048 pixels. How far the work is stands in
    ``out/.unfinished``, and the same call goes on from there.

    Args:
        predictor (Predictor): Of a segmentor.
        inputs (Sequence[Input]): Of :func:`~.inputs.find_inputs`.
        out (Path): A folder.
        core (int): Pixels of a tile. Default: 1024.
        kwargs: Of :class:`~.results.Results`: ``opacity`` and ``only``.

    Returns:
        list[str]: What could not be read, a line for each.

    Raises:
        UserError: The model is not exact in tiles, or an input is a video.
    """
    for source in inputs:
        if source.is_video:
            raise UserError(f'--tiles takes images, got {source.path}')
    TiledRun(predictor.model, core=core)  # all that can be refused at once
    _tell(predictor, inputs)
    results = Labels(out, predictor.meta, **kwargs)
    broken: list[str] = []
    unfinished = out / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('tiles'),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    finished: list[Path] = []
    with lock_folder(unfinished, 'prediction'), progress:
        for source in inputs:
            task = progress.add_task(source.name.as_posix(), total=None)

            def show(done: int, total: int, task: TaskID = task) -> None:
                progress.update(task, completed=done, total=total)

            with noted(broken, source):
                image = open_windows(predictor, source.path)
                folder = unfinished / source.name
                folder.mkdir(parents=True, exist_ok=True)
                classes = segment_in_tiles(
                    predictor.model,
                    image,
                    core=core,
                    out=folder / 'classes.npy',
                    resume=folder / 'state.npz',
                    on_tile=show,
                )
                results.add_map(source.name, classes, image)
                step = -(-max(image.size) // PICTURE)
                picture = to_picture(image.every(step))
                drawn = results.draw_map(picture, classes[::step, ::step])
                name = source.name.with_suffix('.jpg')
                with whole(out / 'overlays' / name) as part:
                    Image.fromarray(drawn).save(part, quality=92)
                finished.append(folder)
        # Not before: a command that goes on counts them once more.
        for folder in finished:
            for file in ('state.npz', 'classes.npy'):
                (folder / file).unlink(missing_ok=True)
    _remove_empty(unfinished)
    if finished:
        results.write()
        Console().print(results.summary())
    return broken


def _remove_empty(folder: Path) -> None:
    """Remove a folder and those in it, if no other work stands there."""
    inner = [path for path in folder.rglob('*') if path.is_dir()]
    with suppress(OSError):
        for path in sorted(inner, reverse=True):
            with suppress(OSError):
                path.rmdir()
        if {path.name for path in folder.iterdir()} <= {'.lock'}:
            (folder / '.lock').unlink(missing_ok=True)
            folder.rmdir()


def open_windows(predictor: Predictor, path: Path) -> Windows:
    """Open an image by parts where its format has them, or read it."""
    channels = count_channels(predictor.model)
    if _is_raster(path) and find_spec('rasterio') and is_upright(path):
        backend = getattr(predictor.reader, 'imdecode_backend', 'cv2')
        return RasterWindows(path, channels, turned=backend == 'cv2')
    image = predictor.read(path)['img']
    image = image.reshape(*image.shape[:2], -1)  # grey ones have no axis
    if image.shape[2] == 1 and channels == 3:
        image = np.broadcast_to(image, (*image.shape[:2], 3))
    return ArrayWindows(as_windows(image, channels).image, describe_file(path))


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in RASTERS


def _tell(predictor: Predictor, inputs: Sequence[Input]) -> None:
    """Say what is done in another way than in a prediction of the whole."""
    steps = [type(step).__name__ for step in predictor.steps]
    left_out = [name for name in steps if name not in PLAIN]
    if left_out:
        print(
            'In tiles an image keeps its size; left out of the test pipeline: '
            + ', '.join(left_out)
        )
    if not find_spec('rasterio') and any(_is_raster(i.path) for i in inputs):
        print(
            'Without rasterio a TIFF is read as a whole, and labels have no '
            f'place on the Earth; the extra {EXTRAS["rasterio"]} brings it'
        )
