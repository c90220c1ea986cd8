from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmea.files import whole, write_text
from mmea.layers._checks import check_choice, check_positive
from mmea.registry import HOOKS

from .drawing import make_figure, make_page
from .views import view_of

__all__ = ['CloudPictureHook']


@HOOKS.register_module()
class CloudPictureHook(Hook):
    """Draw clouds coloured by prediction, beside truth.

    After each validation or test some clouds, from all over the data set, go
    to ``predictions.png`` and to ``predictions.html``, a page without network
    on which they turn by mouse; the paths are logged. Parts have a colour
    each; a cloud that is classified is green where that is right, else red.

    Args:
        num_clouds (int): Default: 12.
        up (str): The coordinate that points upwards, 'y' or 'z'.
            Default: 'z'.
        out_dir (str | None): Default: None, the work dir.
    """

    priority = 'VERY_LOW'  # after the table and the logged metrics

    def __init__(
        self,
        num_clouds: int = 12,
        *,
        up: str = 'z',
        out_dir: str | None = None,
    ) -> None:
        check_positive(num_clouds=num_clouds)
        check_choice('up', up, ('y', 'z'))
        self.num_clouds = num_clouds
        self.up = up
        self.out_dir = out_dir
        self.found: list[tuple[np.ndarray, BaseDataElement]] = []

    def _start(self, dataset: Any) -> None:
        last = len(dataset) - 1
        chosen = np.linspace(0, last, self.num_clouds).round()
        self.chosen = set(chosen.astype(int).tolist())
        self.found = []
        self.seen = 0

    def before_val_epoch(self, runner: Runner) -> None:
        self._start(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        self._start(runner.test_dataloader.dataset)

    def _collect(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        for cloud, sample in zip(data_batch['inputs'], outputs):
            # Another process may have had those before.
            if sample.get('sample_idx', self.seen) in self.chosen:
                self.found.append((cloud.cpu().numpy(), sample.cpu()))
            self.seen += 1

    after_val_iter = _collect
    after_test_iter = _collect

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._draw(runner, runner.val_dataloader.dataset.metainfo, metrics)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        self._draw(runner, runner.test_dataloader.dataset.metainfo, metrics)

    @master_only
    def _draw(
        self, runner: Runner, meta: Mapping, metrics: dict | None
    ) -> None:
        if not self.found:
            return
        views = [view_of(*pair, dict(meta), self.up) for pair in self.found]
        path = Path(self.out_dir or runner.work_dir) / 'predictions.png'
        with whole(path) as part:
            make_figure(views).savefig(part, dpi=120)
        title = Path(runner.cfg.filename or 'Predictions').stem
        told = (metrics or {}).items()
        line = ', '.join(f'{name} {value:.4g}' for name, value in told)
        page = path.with_suffix('.html')
        write_text(page, make_page(views, title, line))
        runner.logger.info(f'Truth and prediction: {path}, to turn: {page}')
