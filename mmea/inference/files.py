"""Predict on files, a broken one among them or not."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmea.engine.drawing import to_picture
from mmea.errors import UserError
from mmea.files import whole

from .inputs import Input
from .predictor import Predictor
from .results import Results, make_results

__all__ = ['noted', 'predict_files']

#: What it is, the picture, and what the model takes.
Prepared = tuple[Input, np.ndarray, dict]


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    batch_size: int = 1,
    **kwargs: Any,
) -> list[str]:
    """Predict on photographs and videos, and write what was found.

    Into ``out`` go ``overlays``, and by the task ``labels`` or
    ``predictions.json``, and ``summary.csv``. Of a video the frames are drawn
    and no labels written.

    Args:
        predictor (Predictor): The model.
        inputs (Sequence[Input]): Of :func:`~.inputs.find_inputs`.
        out (Path): A folder, made if it is missing.
        batch_size (int): Images at a time. Default: 1.
        kwargs: Of :class:`~.results.Results`: ``opacity``, ``only`` and
            ``score_thr``.

    Returns:
        list[str]: What could not be read, a line for each.
    """
    results: Results | None = None
    broken: list[str] = []
    # stdout is for the table.
    progress = Progress(
        TextColumn('Predicting'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with progress:
        task = progress.add_task('', total=len(inputs))
        for batch in _batches(predictor, inputs, batch_size, broken):
            for (source, picture, _), sample in _predict(
                predictor, batch, broken
            ):
                if results is None:
                    results = make_results(
                        sample, out, predictor.meta, **kwargs
                    )
                with noted(broken, source):
                    drawn = results.draw(picture, sample)
                    results.add(source.name, sample)
                    name = source.name.with_suffix('.jpg')
                    with whole(out / 'overlays' / name) as part:
                        Image.fromarray(drawn).save(part, quality=92)
                progress.advance(task)
        for source in inputs:
            if source.is_video:
                with noted(broken, source):
                    _predict_video(predictor, source, out, progress, kwargs)
                progress.advance(task)
        progress.update(task, completed=len(inputs))  # the broken ones too
    if results is not None:
        results.write()
        Console().print(results.summary())
    return broken


@contextlib.contextmanager
def noted(broken: list[str], source: Input) -> Iterator[None]:
    """Note what is wrong with a file, and let the others have their turn."""
    try:
        yield
    except UserError as error:
        broken.append(str(error))
    except OSError:  # of the disk, not of the file
        raise
    except Exception as error:  # a size that a resize or the net cannot take
        line = ' '.join(str(error).split())[:200]
        broken.append(
            f'cannot predict on {source.path}: {type(error).__name__}: {line}'
        )


def _predict(
    predictor: Predictor, batch: list[Prepared], broken: list[str]
) -> Iterator[tuple[Prepared, BaseDataElement]]:
    try:
        yield from zip(
            batch, predictor.predict_prepared([d for _, _, d in batch])
        )
        return
    except Exception:  # it may be one image's fault
        pass
    for prepared in batch:
        with noted(broken, prepared[0]):
            yield prepared, predictor.predict_prepared([prepared[2]])[0]


def _batches(
    predictor: Predictor,
    inputs: Sequence[Input],
    batch_size: int,
    broken: list[str],
) -> Iterator[list[Prepared]]:
    """Read photographs; note those that cannot be."""
    batch: list[Prepared] = []
    for source in inputs:
        if source.is_video:
            continue
        with noted(broken, source):
            image = predictor.read(source.path)
            batch.append(
                (source, to_picture(image['img']), predictor.prepare(image))
            )
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _predict_video(
    predictor: Predictor,
    source: Input,
    out: Path,
    progress: Progress,
    kwargs: dict,
) -> None:
    frames = mmcv.VideoReader(str(source.path))
    # What OpenCV says of a file that is none differs by its version.
    if frames.frame_cnt < 1 or not frames.width or not frames.fps:
        raise UserError(
            f'cannot decode the video {source.path}; is it one, and has '
            'OpenCV its codec?'
        )
    task = progress.add_task('', total=len(frames))
    size = frames.width, frames.height
    results: Results | None = None
    with whole(out / 'overlays' / source.name.with_suffix('.mp4')) as part:
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(part), codec, frames.fps, size)
        try:
            for frame in frames:
                sample = predictor.predict(frame)
                if results is None:
                    results = make_results(
                        sample, out, predictor.meta, **kwargs
                    )
                drawn = results.draw(to_picture(frame), sample)
                writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
                progress.advance(task)
        finally:
            writer.release()
            progress.remove_task(task)
