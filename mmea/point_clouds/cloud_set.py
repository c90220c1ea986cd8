from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from mmea.errors import UserError
from mmea.layers._checks import check_choice, check_int, check_positive

__all__ = ['CloudSet']


class CloudSet(BaseDataset):
    """What the data sets of clouds share.

    A subclass lists clouds, a dict for each, with ``gt_label`` and what its
    :meth:`read` makes points of. An item is ``inputs``, (num_points,
    channels), and ``data_samples`` with ``gt_label`` (1,), ``path`` and,
    where points have labels, ``gt_parts`` (num_points,).

    Args:
        data_root (str): Folder of the data set.
        split (str): One of :attr:`SPLITS`.
        num_points (int): Points of a cloud. Default: 1024.
        channels (int): Columns that are taken of a file. Default: 3, the
            coordinates.
        seed (int | None): Of what is drawn, the same points of a cloud at
            each visit; None: others each time. Default: 0.
        pipeline (Sequence): Transforms of a dict with ``points`` (N, C),
            float32, ``gt_label``, ``path`` and maybe ``gt_parts``.
            Default: ().
        kwargs: Of mmengine's BaseDataset.
    """

    SPLITS: tuple[str, ...] = ()

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        num_points: int = 1024,
        channels: int = 3,
        seed: int | None = 0,
        pipeline: Sequence = (),
        **kwargs: Any,
    ) -> None:
        check_choice('split', split, self.SPLITS)
        check_positive(num_points=num_points)
        check_int(3, channels=channels)
        if seed is not None:
            check_int(0, seed=seed)
        self.split = split
        self.num_points = num_points
        self.channels = channels
        self.seed = seed
        self.folder = Path(data_root)
        if not self.folder.is_dir():
            raise UserError(
                f'data_root={data_root!r} is no folder; name the one that '
                f'holds {type(self).__name__}'
            )
        super().__init__(pipeline=list(pipeline), **kwargs)

    def read(
        self, info: dict, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the points (N, C) of a cloud, and their labels (N,)."""
        raise NotImplementedError

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Read a cloud, run the pipeline, pack."""
        info = self.get_data_info(idx)
        # mmengine seeds numpy's own state in each worker.
        own = np.random.randint(2**31) if self.seed is None else self.seed
        rng = np.random.default_rng([own, idx])
        points, parts = self.read(info, rng)
        if points.shape[1] < self.channels:
            raise UserError(
                f'{info["path"]} has {points.shape[1]} columns, and '
                f'channels={self.channels} were asked for'
            )
        if len(points) < self.num_points:
            way = 'lower it'
            if points.shape[1] >= self.num_points:
                way = f'a row is a point: transpose {points.shape}'
            raise UserError(
                f'{info["path"]} has {len(points)} points, fewer than '
                f'num_points={self.num_points}; {way}'
            )
        points = points[:, : self.channels]
        item = dict(info, points=points.astype(np.float32), gt_parts=parts)
        item = self.pipeline(item)
        sample = BaseDataElement(
            metainfo=dict(path=item['path'], sample_idx=idx),
            gt_label=torch.tensor([item['gt_label']]),
        )
        if item.get('gt_parts') is not None:
            sample.gt_parts = torch.from_numpy(item['gt_parts']).long()
        cloud = np.ascontiguousarray(item['points'])
        return dict(inputs=torch.from_numpy(cloud), data_samples=sample)

    def require(self, found: list[dict], layouts: str) -> list[dict]:
        """Return what was found, or say where was looked."""
        if not found:
            raise UserError(
                f'{self.folder} holds no cloud of the split {self.split!r}; '
                f'looked for {layouts}'
            )
        return found
