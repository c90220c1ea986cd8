"""A small web page: drop a photograph, see what a model finds in it."""

from .server import check_port, launch, own_folder
from .work import (
    Found,
    Looked,
    check_layers,
    draw,
    draw_layer,
    look_at,
    predict,
)

__all__ = [
    'Found',
    'Looked',
    'check_layers',
    'check_port',
    'draw',
    'draw_layer',
    'launch',
    'look_at',
    'own_folder',
    'predict',
]
