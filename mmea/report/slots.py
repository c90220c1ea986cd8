"""What the slots of a model's external attention look at."""

from collections.abc import Sequence

import numpy as np

from mmea.engine.drawing import draw_figure
from mmea.inference import Predictor
from mmea.visualize import draw_page, look

__all__ = ['draw_slots']

LAYERS = 4  # of a model, at most
DPI = 80


def draw_slots(
    predictor: Predictor, paths: Sequence[str]
) -> list[tuple[str, np.ndarray]]:
    """Draw the maps of the slots of a model's layers over images.

    Args:
        predictor (Predictor): The model.
        paths (Sequence[str]): Of images.

    Returns:
        list[tuple[str, np.ndarray]]: Layer and image in words, and a uint8
        (H, W, 3), RGB; of the last four layers that have slots, empty where
        none has.
    """
    found = []
    for path in paths:
        view = look(predictor, path)
        layers = [
            (name, calls[0])
            for name, calls in view.maps.items()
            if calls and not calls[0].note and calls[0].attention is not None
        ]
        for name, maps in layers[-LAYERS:]:
            picture = draw_figure(draw_page(view, maps, title=name), DPI)
            found.append((f'{name}, {path.rpartition("/")[2]}', picture))
    return found
