import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import BaseDataElement
from rich.table import Table

from mmea.files import whole

__all__ = ['Results']


class Results:
    """What all kinds share.

    Args:
        out (Path): Folder of the results.
        meta (dict): ``classes`` and ``palette`` of the data set.
        opacity (float): Of what is drawn over photographs.
        only (Sequence[int] | None): Ids of the classes to draw and to count;
            None, all.
        score_thr (float): Instances of a lower score are left out.
    """

    #: Columns of the table of each image.
    columns: tuple[str, ...]

    def __init__(
        self,
        out: Path,
        meta: dict,
        *,
        opacity: float = 0.5,
        only: Sequence[int] | None = None,
        score_thr: float = 0.3,
    ) -> None:
        self.out = out
        self.meta = meta
        self.opacity = opacity
        self.only = only
        self.score_thr = score_thr
        self.rows: list[tuple] = []

    @property
    def classes(self) -> Sequence[str]:
        return self.meta.get('classes') or ()

    def draw(self, picture: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Draw what was found over uint8 (H, W, 3), RGB."""
        raise NotImplementedError

    def find(self, sample: BaseDataElement) -> list[tuple]:
        """List what was found in one image: ``columns`` without its name."""
        raise NotImplementedError

    def add(self, name: Path, sample: BaseDataElement) -> None:
        """Keep what was found in one image."""
        rows = self.find(sample)
        self.rows += [(name.as_posix(), *row) for row in rows]

    def summary(self) -> Table:
        """Make a table of what was found in all images, by class."""
        raise NotImplementedError

    def write(self) -> None:
        """Write ``summary.csv``, a line for each finding."""
        with (
            whole(self.out / 'summary.csv') as part,
            open(
                part,
                'w',
                newline='',
                encoding='utf-8',
                errors='surrogateescape',  # names of files are any bytes
            ) as file,
        ):
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(self.columns)
            writer.writerows(self.rows)
