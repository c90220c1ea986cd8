"""Images of the validation with truth and predictions."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement

from mmea.engine.drawing import draw_class, to_picture
from mmea.engine.guarded_loaders import guard_dataset
from mmea.engine.hooks import DetPictureHook, SegPictureHook
from mmea.engine.preflight import prepare_data
from mmea.errors import in_one_line
from mmea.inference import Predictor
from mmea.new.summary import spread

from .measures import measure, measure_of

__all__ = ['Gallery', 'Picture', 'fill_gallery', 'validation_set']

SIDE = 512  # pixels of the longer side
LOOKED_AT = 100  # images that those shown are chosen from
LAID = 0.6  # opacity of classes over an image


@dataclass
class Picture:
    """One image of the gallery.

    Attributes:
        path (str): Of its file.
        scores (list[float | None]): Of each prediction.
        layers (list[tuple[str, np.ndarray]]): Title and uint8 (H, W, 3), RGB:
            image, truth, predictions.
    """

    path: str
    scores: list[float | None]
    layers: list[tuple[str, np.ndarray]]

    @property
    def name(self) -> str:
        return Path(self.path).name


@dataclass
class Gallery:
    """Pictures, the worst first.

    Attributes:
        pictures (list[Picture]): Those that are shown.
        measure (str): What the scores are.
        looked_at (int): From how many images they were chosen.
        total (int): Images of the validation.
        legend (list[tuple[str, str]]): Names and colours of classes.
    """

    pictures: list[Picture]
    measure: str
    looked_at: int
    total: int
    legend: list[tuple[str, str]]


def validation_set(cfg: Config) -> Any:
    """Build the data set that a config validates on.

    Args:
        cfg (Config): Of the training. Scenes of a demo are not rendered anew.

    Returns:
        Dataset: Of mmseg, mmdet or mmpretrain; its samples have a truth.

    Raises:
        UserError: The data is gone, or not as the config describes it.
    """
    cfg = deepcopy(cfg)
    cfg.pop('demo_scenes', None)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    prepare_data(cfg, 'val_dataloader')
    with in_one_line('cannot build val_dataloader.dataset'):
        dataset = guard_dataset(
            cfg.val_dataloader.dataset, cfg.get('default_scope')
        )
        return DATASETS.build(dataset)


def fill_gallery(
    predictors: Sequence[Predictor],
    dataset: Any,
    number: int,
    titles: Sequence[str] = ('prediction',),
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Gallery:
    """Choose images by how well they were predicted, and draw them.

    Of one predictor the worst and the best, of two those where the second is
    furthest behind and furthest ahead.

    Args:
        predictors (Sequence[Predictor]): One or two.
        dataset (Dataset): Of :func:`validation_set`.
        number (int): Images to draw; half of them the worst.
        titles (Sequence[str]): Of the predictions.
        track (Callable): Wraps the images that are looked at, for a bar.

    Returns:
        Gallery: At most ``number`` pictures, from up to 100 images all over
        the data set.
    """
    ignored = getattr(dataset, 'ignore_index', 255)
    indices = spread(len(dataset), LOOKED_AT)
    order: list[tuple[float, int]] = []
    what = ''
    for i in track(indices):
        samples = _predict(predictors, dataset[i])
        what = measure_of(samples[0])
        values = [measure(sample, ignored) for sample in samples]
        known = [value for value in values if value is not None]
        if len(known) == len(samples):
            before = known[0] if known[1:] else 0.0
            order.append((known[-1] - before, i))
    order.sort()
    if len(order) > number:
        order = order[: -(-number // 2)] + order[len(order) - number // 2 :]
    seg = SegPictureHook(ignore_index=ignored)
    pictures = []
    for _, i in order:
        samples = _predict(predictors, dataset[i])
        image = to_picture(predictors[0].read(samples[0].img_path)['img'])
        drawn = [_draw(image, s, dataset.metainfo, seg) for s in samples]
        layers = [('image', image), ('truth', drawn[0][0])]
        layers += [(t, pred) for t, (_, pred) in zip(titles, drawn)]
        pictures.append(
            Picture(
                samples[0].img_path,
                [measure(sample, ignored) for sample in samples],
                [(title, _fit(picture)) for title, picture in layers],
            )
        )
    legend = [
        (patch.get_label(), _hex(patch.get_facecolor()))
        for patch in (seg.legend(dataset.metainfo) if seg.seen else ())
    ]
    return Gallery(pictures, what, len(indices), len(dataset), legend)


def _predict(
    predictors: Sequence[Predictor], data: dict
) -> list[BaseDataElement]:
    return [
        predictor.predict_prepared([deepcopy(data)])[0].cpu()
        for predictor in predictors
    ]


def _draw(
    image: np.ndarray, sample: BaseDataElement, meta: dict, seg: SegPictureHook
) -> tuple[np.ndarray, np.ndarray]:
    """Draw truth and prediction over an image."""
    if 'pred_sem_seg' in sample:
        drawn = {
            title: cv2.addWeighted(labels, LAID, image, 1 - LAID, 0)
            for title, labels in seg.draw(image, sample, meta).items()
        }
        # As mmea predict has it: what is no class is not coloured.
        names = [name.lower() for name in meta.get('classes') or ()]
        if 'background' in names:
            for title, key in (
                ('ground truth', 'gt_sem_seg'),
                ('prediction', 'pred_sem_seg'),
            ):
                ids = sample.get(key).data.squeeze(0).numpy()
                other = ids == names.index('background')
                drawn[title][other] = image[other]
    elif 'pred_instances' in sample:
        with warnings.catch_warnings():
            # Of boxes that reach beyond the image.
            warnings.filterwarnings('ignore', message='.*out of bounds')
            drawn = DetPictureHook().draw(image, sample, meta)
    else:
        factor = SIDE / max(image.shape[:2])  # or the name has no room
        image = cv2.resize(image, None, fx=factor, fy=factor)
        classes = meta.get('classes') or ()
        truth = sample.clone()
        truth.pred_label = sample.gt_label[:1]
        truth.pred_score = sample.pred_score.new_ones(len(sample.pred_score))
        drawn = {
            'ground truth': draw_class(image, truth, classes),
            'prediction': draw_class(image, sample, classes),
        }
    return drawn['ground truth'], drawn['prediction']


def _fit(picture: np.ndarray) -> np.ndarray:
    """Make a large picture smaller."""
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return picture
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _hex(colour: Sequence[float]) -> str:
    return '#' + ''.join(f'{round(255 * c):02x}' for c in colour[:3])
