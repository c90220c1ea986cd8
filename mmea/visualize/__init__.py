"""What a trained model looks at: maps over photographs, slots by classes."""

from .data import draw_data
from .files import draw_files
from .page import draw_page
from .slot_classes import SlotClasses, information
from .view import View, look

__all__ = [
    'SlotClasses',
    'View',
    'draw_data',
    'draw_files',
    'draw_page',
    'information',
    'look',
]
