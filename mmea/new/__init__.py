"""From a folder of data to a config: what ``mmea new`` finds and writes.

And what ``mmea check-data`` shows of the data of any config.
"""

from .detection import new_detection
from .look import look_at
from .project import Project
from .segmentation import new_segmentation
from .sheet import draw_sheet
from .summary import Summary, show

__all__ = [
    'Project',
    'Summary',
    'draw_sheet',
    'look_at',
    'new_detection',
    'new_segmentation',
    'show',
]
