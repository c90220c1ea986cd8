from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmea.errors import UserError
from mmea.registry import HOOKS

__all__ = ['SegLabelCheckHook']


@HOOKS.register_module()
class SegLabelCheckHook(Hook):
    """Stop at the first label that is no class, naming its file.

    A wrong id otherwise ends in an index error of the loss, in an assertion
    on the GPU, or (in evaluation) in a wrong number and no error at all.

    Args:
        ignore_index (int | None): The id of pixels without a label.
            Default: None, that of the decode head, or 255.

    Raises:
        UserError: A label image holds an id outside the classes, or the
            head's ``num_classes`` is not that of the data set.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index

    def before_train(self, runner: Runner) -> None:
        classes = runner.train_dataloader.dataset.metainfo.get('classes')
        if classes is None:
            return
        for head in _decode_heads(runner):
            number = getattr(head, 'num_classes', len(classes))
            if number != len(classes):
                raise UserError(
                    f'decode_head.num_classes is {number}, the data set has '
                    f'{len(classes)} classes; set model.decode_head.'
                    f'num_classes={len(classes)} (auxiliary heads too)'
                )

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

    def _check(self, runner: Runner, loader: Any, data_batch: Any) -> None:
        classes = loader.dataset.metainfo.get('classes')
        if classes is None:
            return
        ignored = self.ignore_index
        if ignored is None:
            ignored = getattr(_decode_heads(runner)[0], 'ignore_index', 255)
        for sample in data_batch.get('data_samples') or ():
            if 'gt_sem_seg' not in sample:
                continue
            labels = sample.gt_sem_seg.data
            wrong = (labels >= len(classes)) & (labels != ignored)
            if wrong.any():
                ids = labels[wrong].unique().tolist()
                raise UserError(
                    f'label image {sample.get("seg_map_path", "?")} holds '
                    f'the ids {str(ids[:5])[1:-1]}, outside the '
                    f'{len(classes)} classes (0..{len(classes) - 1}, '
                    f'{ignored} = ignored'
                    + (
                        ', after reduce_zero_label'
                        if sample.get('reduce_zero_label')
                        else ''
                    )
                    + '); correct the file or the classes of the data set'
                )


def _decode_heads(runner: Runner) -> list:
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    heads: Any = getattr(model, 'decode_head', None)
    return list(heads) if hasattr(heads, '__iter__') else [heads]
