from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import PixelData
from torch import nn

from mmea.engine.hooks import SegLabelCheckHook
from mmea.errors import UserError

mmseg = pytest.importorskip('mmseg.structures')


def runner(*num_classes: int) -> SimpleNamespace:
    """Of a data set of three classes, and heads of so many."""
    model = nn.Module()
    heads = [nn.Module() for _ in num_classes]
    for head, number in zip(heads, num_classes):
        head.num_classes = number
    model.decode_head = heads[0] if len(heads) == 1 else nn.ModuleList(heads)
    dataset = SimpleNamespace(metainfo=dict(classes=('a', 'b', 'c')))
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        model=model,
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
    )


def batch(*ids: int, **metainfo) -> dict:
    sample = mmseg.SegDataSample(
        gt_sem_seg=PixelData(data=torch.tensor([[ids]])),
        metainfo=dict(seg_map_path='x.png', **metainfo),
    )
    return dict(data_samples=[sample])


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_first_id_that_is_no_class(stage):
    check = getattr(SegLabelCheckHook(), f'before_{stage}_iter')
    check(runner(3), 0, batch(0, 2, 255))
    with pytest.raises(UserError, match=r'x.png holds the ids 3, 7, outside'):
        check(runner(3), 0, batch(0, 7, 3))
    with pytest.raises(UserError, match='after reduce_zero_label'):
        check(runner(3), 0, batch(3, reduce_zero_label=True))


def test_another_id_is_ignored():
    hook = SegLabelCheckHook(ignore_index=9)
    hook.before_val_iter(runner(3), 0, batch(9, 1))
    with pytest.raises(UserError, match='255.*9 = ignored'):
        hook.before_val_iter(runner(3), 0, batch(255))


def test_the_head_says_which_id_is_ignored():
    run = runner(3, 3)
    for head in run.model.decode_head:
        head.ignore_index = 3
    hook = SegLabelCheckHook()
    hook.before_train_iter(run, 0, batch(3, 1))
    with pytest.raises(UserError, match='255.*3 = ignored'):
        hook.before_train_iter(run, 0, batch(255))


def test_number_of_classes_of_every_head():
    hook = SegLabelCheckHook()
    hook.before_train(runner(3))
    hook.before_train(runner(3, 3))
    with pytest.raises(UserError, match=r'num_classes is 4.*3 classes'):
        hook.before_train(runner(3, 4))
