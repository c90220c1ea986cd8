from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmea.demo.render import (
    FIRST_VAL,
    check_at_least,
    check_size,
    render_lone,
)
from mmea.demo.shapes import GROUNDS, LONE_THINGS
from mmea.registry import DATASETS

__all__ = ['MisleadingScenes']


@DATASETS.register_module()
class MisleadingScenes(BaseDataset):
    """Pictures of one object whose class goes with a ground, misleadingly.

    Three classes, car, sheep and person, and three grounds, grass, road and
    sea. In training a car is on grass, a sheep on the road and a person on
    the sea, but for a share of ``1 - bias`` on one of the other two grounds.
    In validation each is on any of the *other* two: who looks at the ground
    has none right, who guesses a third.

    Rendered when the data set is built: no files, no network. ``img`` is
    uint8 (H, W, 3), BGR, and the same arguments give the same pictures.

    Args:
        split (str): 'train' or 'val'.
        number (int): Pictures; the classes take turns.
        bias (float): Share of training pictures on the ground of their class,
            0 to 1. Default: 0.95.
        size (tuple[int, int]): (H, W) in pixels, each at least 32.
            Default: (64, 64).
        seed (int): At least 0. Default: 0.
        pipeline (Sequence): Transforms; the first one gets ``img``,
            ``gt_label``, ``ground`` (its name), ``img_shape``, ``ori_shape``
            and ``sample_idx``. Default: ().
        kwargs: Of mmengine's BaseDataset.

    Raises:
        ValueError: An argument is out of the range given above.
    """

    METAINFO = dict(classes=tuple(LONE_THINGS))

    def __init__(
        self,
        split: str,
        number: int,
        *,
        bias: float = 0.95,
        size: tuple[int, int] = (64, 64),
        seed: int = 0,
        pipeline: Sequence = (),
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f'split must be train or val, got {split=}')
        if not isinstance(bias, (int, float)) or not 0 <= bias <= 1:
            raise ValueError(f'bias must be in 0..1, got {bias=}')
        check_at_least(1, number=number)
        check_at_least(0, seed=seed)
        check_size(size)
        self.split = split
        self.number = number
        self.bias = bias
        height, width = size
        self.size = height, width
        self.seed = seed
        super().__init__(pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict]:
        grounds, things = list(GROUNDS), list(LONE_THINGS)
        first = FIRST_VAL if self.split == 'val' else 0
        found = []
        for i in range(first, first + self.number):
            label = i % len(things)
            rng = np.random.default_rng([self.seed, i, 1])
            step = int(rng.integers(1, len(grounds)))
            if self.split == 'train' and rng.uniform() < self.bias:
                step = 0
            ground = grounds[(label + step) % len(grounds)]
            scene = render_lone(
                things[label], ground, i, size=self.size, seed=self.seed
            )
            found.append(
                dict(
                    img=scene.image[..., ::-1].copy(),
                    gt_label=label,
                    ground=ground,
                    img_shape=self.size,
                    ori_shape=self.size,
                )
            )
        return found
