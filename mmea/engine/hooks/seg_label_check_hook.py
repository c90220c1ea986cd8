import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmea.engine.data_checks.files import shorten
from mmea.errors import UserError
from mmea.registry import HOOKS

__all__ = ['SegLabelCheckHook']


@HOOKS.register_module()
class SegLabelCheckHook(Hook):
    """Stop at the first label that is no class, naming its file.

    A wrong id otherwise ends in an index error of the loss, in an assertion
    on the GPU, or (in evaluation) in a wrong number and no error at all.
    Before a training some of its label files are read, to see that there is
    something to learn: a warning names classes that do not occur there.

    Args:
        ignore_index (int | None): The id of pixels without a label.
            Default: None, that of the decode head, or 255.
        num_files (int): How many label files to read before a training, from
            all over the data set; more of them only where all of these hold
            one class at most. Default: 100.

    Raises:
        UserError: A label image holds an id outside the classes, a head's
            ``num_classes`` is not that of the data set, or the training's
            labels are all ignored or, for two classes, 0 and 255.
    """

    def __init__(
        self, ignore_index: int | None = None, num_files: int = 100
    ) -> None:
        self.ignore_index = ignore_index
        self.num_files = num_files

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        classes = dataset.metainfo.get('classes')
        val = getattr(runner, 'val_loop', None)
        if val is not None and not val.dataloader.dataset.metainfo.get(
            'classes'
        ):
            raise UserError(
                'the data set of val_dataloader has no names of classes, '
                'which its metric needs: set val_dataloader.dataset.metainfo='
                'dict(classes=(...), palette=[...]), and that of training'
            )
        if classes is None:
            return
        for name, head in _heads(runner):
            number = getattr(head, 'num_classes', len(classes))
            if number != len(classes):
                raise UserError(
                    f'{name}.num_classes is {number}, the data set has '
                    f'{len(classes)} classes; set model.{name}.'
                    f'num_classes={len(classes)}, and that of all other heads'
                )
        ignored = self._ignored(runner)
        if ignored == 255 < len(classes):
            print_log(
                f'255 is ignored, and one of the {len(classes)} classes: set '
                'ignore_index of all heads, data sets and evaluators to '
                'another id, such as 65535',
                'current',
                level=logging.WARNING,
            )
        if self.num_files:
            self._look_for_classes(dataset, classes, ignored)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        self._check(runner, runner.train_dataloader, data_batch)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        self._check(runner, runner.val_dataloader, data_batch)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        self._check(runner, runner.test_dataloader, data_batch)

    def _ignored(self, runner: Runner) -> int:
        if self.ignore_index is not None:
            return self.ignore_index
        heads = dict(_heads(runner))
        return getattr(next(iter(heads.values()), None), 'ignore_index', 255)

    def _check(self, runner: Runner, loader: Any, data_batch: Any) -> None:
        classes = loader.dataset.metainfo.get('classes')
        if classes is None:
            return
        ignored = self._ignored(runner)
        for sample in data_batch.get('data_samples') or ():
            if 'gt_sem_seg' not in sample:
                continue
            labels = sample.gt_sem_seg.data
            wrong = (labels < 0) | (labels >= len(classes))
            wrong &= labels != ignored
            if wrong.any():
                ids = labels[wrong].unique().tolist()[:5]
                told = str(ids)[1:-1]
                if sample.get('reduce_zero_label'):
                    # The ignored id is not reduced.
                    of_file = [i + (i != 255) for i in ids]
                    told = f'{str(of_file)[1:-1]} ({told} after '
                    told += 'reduce_zero_label)'
                raise UserError(
                    f'label image {sample.get("seg_map_path", "?")} holds '
                    f'the ids {told}, outside the {len(classes)} classes '
                    f'(0..{len(classes) - 1}, {ignored} = ignored); correct '
                    'the file or the classes of the data set'
                )

    def _look_for_classes(
        self, dataset: Any, classes: tuple[str, ...], ignored: int
    ) -> None:
        """See which classes occur in the labels of a training."""
        seen: set[int] = set()
        number = 0
        wanted = {*range(len(classes))} - {ignored}
        for labels in _label_images(dataset, self.num_files):
            if number >= self.num_files and len(seen & wanted) > 1:
                break
            seen.update(np.unique(labels).tolist())
            number += 1
            if wanted <= seen:
                break
        missing = sorted(wanted - seen)
        if not number or not missing or seen - wanted - {ignored}:
            return  # wrong ids have their own error, which names the file
        where = f'the {number} label images of the training that were read'
        if not seen & wanted:
            raise UserError(
                f'{where} hold ignored pixels only (id {ignored}): there is '
                'nothing to learn; check the files and reduce_zero_label of '
                'the data set'
            )
        if seen == {0, ignored} and len(classes) == 2:
            raise UserError(
                f'{where} hold the ids 0 and {ignored} only, and {ignored} '
                f'is ignored: write 1 for {ignored}, the id of '
                f'{classes[1]!r}, into them'
            )
        print_log(
            f'{where} hold no pixel of {len(missing)} of the {len(classes)} '
            f'classes: {shorten([classes[i] for i in missing])}',
            'current',
            level=logging.WARNING,
        )


def _label_images(dataset: Any, number: int) -> Iterator[np.ndarray]:
    """Read the label images of a built data set, from all over it first."""
    parts = [*_parts(dataset)]
    files = [(part, i) for part in parts for i in range(len(part))]
    step = -(-len(files) // number)
    for start in range(step):
        for part, i in files[start::step]:
            info = part.get_data_info(i)
            load = _label_loader(part)
            if load is not None and info.get('seg_map_path'):
                yield load.transform(info)['gt_seg_map']


def _parts(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside of ConcatDataset, RepeatDataset, ..."""
    if hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from _parts(part)
    elif hasattr(dataset, 'dataset'):
        yield from _parts(dataset.dataset)
    elif hasattr(dataset, 'pipeline'):
        yield dataset


def _label_loader(dataset: Any) -> Any:
    from mmseg.datasets.transforms import LoadAnnotations

    for transform in dataset.pipeline.transforms:
        if isinstance(transform, LoadAnnotations):
            return transform
    return None


def _heads(runner: Runner) -> Iterator[tuple[str, Any]]:
    """Yield the heads of a model of mmseg, with their places in its config."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    for name in ('decode_head', 'auxiliary_head'):
        heads: Any = getattr(model, name, None)
        if hasattr(heads, '__iter__'):
            yield from ((f'{name}.{i}', head) for i, head in enumerate(heads))
        elif heads is not None:
            yield name, heads
