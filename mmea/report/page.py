"""The page of a training: what its parts found, in one file of HTML."""

import base64
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mmea.engine.checkpoint import use_safe_loading
from mmea.engine.config import takes_images
from mmea.errors import UserError
from mmea.files import write_text
from mmea.inference import Predictor, load

from . import tables
from .cost import cost_of_parts
from .curves import draw_curves
from .differences import base_of, differences
from .gallery import Gallery, fill_gallery, validation_set
from .run import Run, name_folders, read_run
from .slots import draw_slots

__all__ = ['write_report']

#: Of a comparison: its title, and key, old and new value of what differs.
Comparison = tuple[str, list[tuple[str, str, str]]]


def write_report(
    work_dirs: Sequence[str | Path],
    out: str | Path,
    *,
    num: int = 12,
    base: str | None = None,
    device: str | None = None,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[str]:
    """Write what one training or two were, on a page that stands alone.

    Args:
        work_dirs (Sequence[str | Path]): One folder or two, of trainings.
        out (str | Path): The file of HTML.
        num (int): Images in the gallery; 0 leaves it out. Default: 12.
        base (str | None): Config to compare that of the run with. Default:
            None, the shipped one of the same name, or its base.
        device (str | None): Of the predictions. Default: None, the GPU, if
            there is one.
        track (Callable): Wraps the images that are looked at, for a bar.

    Returns:
        list[str]: What the page lacks, and why.

    Raises:
        UserError: A folder is no work dir of a training, its log, config or
            checkpoint is damaged, there is no config ``base``, or the file
            cannot be written.
    """
    use_safe_loading()
    folders = [Path(folder) for folder in work_dirs]
    runs = [*map(read_run, folders, name_folders(folders))]
    notes = [note for run in runs for note in run.notes]
    # A note says why one cannot be had; without it nothing is predicted.
    predictors = [
        load(deepcopy(run.cfg), run.checkpoint, device=device)  # it is changed
        for run in runs
        if run.cfg and run.checkpoint and takes_images(run.cfg)
    ]
    names = ['A', 'B'] if runs[1:] else ['']
    gallery = None
    if not num:
        notes.append('no gallery: it was not wanted')
    elif any(run.is_gan for run in runs):
        notes.append(
            'no gallery: a GAN predicts nothing, its images are in samples in '
            'its work dir; mmea generate makes more'
        )
    elif any(run.cfg and not takes_images(run.cfg) for run in runs):
        notes.append(
            'no gallery: the model takes no single images; one of point '
            'clouds has predictions.html in its work dir'
        )
    elif len(predictors) < len(runs):
        notes.append('no gallery: it takes a config and a checkpoint')
    else:
        try:
            dataset = validation_set(predictors[0].cfg)
        except UserError as error:
            notes.append(f'no gallery: {error}')
        else:
            gallery = fill_gallery(
                predictors,
                dataset,
                num,
                [f'prediction {name}'.strip() for name in names],
                track,
            )
    costs, size = _costs(predictors)
    text = _template().render(
        runs=runs,
        names=names,
        facts=tables.facts_table(runs, names),
        notes=notes,
        comparisons=_compare(runs, base),
        curves=draw_curves(runs),
        metrics=tables.metric_table(runs, names),
        classes=tables.class_table(runs, names),
        costs=tables.cost_table(costs, names) if costs else None,
        size=size,
        gallery=gallery,
        slots=_slots(predictors, names, gallery),
        environment=tables.environment_table(runs, names),
    )
    try:
        write_text(out, text)
    except OSError as error:
        raise UserError(
            f'cannot write the page {out}: {error.strerror}; choose another '
            '--out'
        ) from error
    return notes


def _costs(predictors: Sequence[Predictor]) -> tuple[list, str]:
    counted = [cost_of_parts(deepcopy(p.cfg)) for p in predictors]
    sizes = dict.fromkeys(size for _, size in counted)
    return [rows for rows, _ in counted], ' and '.join(sizes)


def _slots(
    predictors: Sequence[Predictor],
    names: Sequence[str],
    gallery: Gallery | None,
) -> list[tuple[str, np.ndarray]]:
    """Draw slots over the first and the last image of the gallery."""
    pictures = gallery.pictures if gallery else []
    paths = list(dict.fromkeys(p.path for p in pictures[:1] + pictures[-1:]))
    return [
        (f'{name}: {title}' if name else title, picture)
        for name, predictor in zip(names, predictors)
        for title, picture in draw_slots(predictor, paths)
    ]


def _compare(runs: Sequence[Run], base: str | None) -> list[Comparison]:
    """Compare the configs with their base and with each other."""
    found: list[Comparison] = []
    for run in runs:
        if run.cfg is None:
            continue
        based = base_of(run.cfg, base)
        if based is None:
            found.append(
                (
                    f'{run.name}: {Path(run.cfg.filename).name} is a config '
                    'of your own, and no base of it is a whole config; --base '
                    'names one to compare with',
                    [],
                )
            )
            continue
        title = f'{run.name} against {based[0]}'
        found.append((title, differences(based[1], run.cfg)))
    cfgs = [run.cfg for run in runs if run.cfg]
    if len(cfgs) == 2:
        found.insert(0, ('A against B', differences(*cfgs)))
    return found


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader('mmea.report', ''),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['uri'] = _to_uri
    return environment.get_template('page.html')


def _to_uri(picture: np.ndarray) -> str:
    """Write uint8 (H, W, 3), RGB, as an address that holds the image."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 80]
    _, data = cv2.imencode('.jpg', picture[..., ::-1], options)
    return (
        f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'
    )
