"""What happens behind the buttons of the page, without gradio."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.structures import BaseDataElement

import mmea
from mmea.engine.drawing import draw_figure, to_picture
from mmea.errors import UserError, in_one_line
from mmea.inference import Predictor
from mmea.inference.results import make_results
from mmea.maps import AttentionMaps
from mmea.visualize import View, draw_page, look
from mmea.visualize.files import call_name, chosen

__all__ = ['Found', 'Looked', 'check_layers', 'draw', 'draw_layer', 'look_at',
           'predict']  # fmt: skip

DPI = 100


@dataclass(frozen=True)
class Found:
    """What a model found in a photograph.

    Args:
        path (str): Of the photograph.
        picture (np.ndarray): The photograph, uint8 (H, W, 3), RGB.
        sample (BaseDataElement): Of :meth:`Predictor.predict`, without the
            scores of all classes for each pixel.
    """

    path: str
    picture: np.ndarray
    sample: BaseDataElement


@dataclass(frozen=True)
class Looked:
    """What a model looks at in a photograph.

    Args:
        view (View): Of :func:`mmea.visualize.look`.
        layers (dict): By the name of a layer that can be drawn, its maps; the
            second call of a layer in one pass has a name of its own.
        first (str): The name to begin with: the last layer, its first call.
        left_out (list): A line for each layer that cannot, with the reason.
    """

    view: View
    layers: dict[str, AttentionMaps]
    first: str
    left_out: list[str]


def check_layers(
    predictor: Predictor, layers: Sequence[str] | None = None
) -> bool:
    """Tell whether a model has attention layers of mmea.

    Args:
        predictor (Predictor): The model.
        layers (Sequence[str] | None): Names that it must have. Default: None.

    Raises:
        UserError: It has no such layer.
    """
    # A pass of nothing: all layers, no maps.
    maps = mmea.attention_maps(predictor.model, forward=lambda: None)
    if layers:
        list(chosen(predictor, maps, layers, {}))
    return bool(maps)


def predict(predictor: Predictor, path: str) -> Found:
    """Predict on a photograph.

    Raises:
        UserError: It cannot be read, or the net cannot take it.
    """
    with _by_its_name(path), in_one_line(f'the model cannot take {path}'):
        read = predictor.read(path)
        (sample,) = predictor.predict_prepared([predictor.prepare(read)])
    # Of 150 classes they are 150 times the photograph.
    sample.pop('seg_logits', None)
    return Found(path, to_picture(read['img']), sample)


def draw(
    predictor: Predictor, found: Found, score_thr: float = 0.3
) -> tuple[np.ndarray, list[tuple]]:
    """Draw what was found over the photograph, and list it.

    Args:
        predictor (Predictor): Whose find it is.
        found (Found): Of :func:`predict`.
        score_thr (float): Instances of a lower score are left out.
            Default: 0.3.

    Returns:
        tuple: uint8 (H, W, 3), RGB; and by the task a row for each class in
        the image, with its share of the pixels, for each instance, with its
        score, x, y, width and height, or for the likeliest classes, with
        their scores. The largest come first.
    """
    results = make_results(
        found.sample, Path(), predictor.meta, score_thr=score_thr
    )
    rows = [
        (name, float(number), *box)
        for name, number, *box in results.find(found.sample)
    ]
    rows.sort(key=lambda row: -row[1])
    return results.draw(found.picture, found.sample), rows


def look_at(
    predictor: Predictor,
    path: str,
    *,
    pixel: tuple[float, float] | None = None,
    layers: Sequence[str] | None = None,
) -> Looked:
    """Look at what the layers look at in a photograph.

    Args:
        predictor (Predictor): The model.
        path (str): Of the photograph.
        pixel (tuple[float, float] | None): X and y on it. Default: None, the
            centre.
        layers (Sequence[str] | None): Names of layers. Default: None, all.

    Raises:
        UserError: The photograph cannot be read, the net cannot take it or
            does not see the pixel, or there is no such layer.
    """
    with _by_its_name(path):
        view = look(predictor, path, pixel=pixel)
    left_out: dict[str, None] = {}
    found, first = {}, ''
    for name, call, maps in chosen(predictor, view.maps, layers, left_out):
        found[call_name(name, call)] = maps
        first = name if call == 1 else first
    return Looked(view, found, first, list(left_out))


def draw_layer(looked: Looked, name: str) -> np.ndarray:
    """Draw the page of a layer, one of ``looked.layers``, uint8 (H, W, 3)."""
    figure = draw_page(looked.view, looked.layers[name], title=name)
    return draw_figure(figure, DPI)


@contextmanager
def _by_its_name(path: str) -> Iterator[None]:
    """Name the photograph as its owner does, and no option of a command."""
    try:
        yield
    except UserError as error:
        # The way out of an image of a data set is no help here.
        text = str(error).replace(path, Path(path).name).partition(';')[0]
        raise UserError(text.removeprefix('--')) from error
