from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from PIL import Image
from torch import nn

from mmea.engine.hooks import SegLabelCheckHook, seg_label_check_hook
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
    with pytest.raises(UserError, match='x.png holds the ids -7, outside'):
        check(runner(3), 0, batch(0, -7))


def test_ids_are_told_as_the_file_has_them():
    check = SegLabelCheckHook().before_train_iter
    words = r'the ids 4, 300 \(3, 299 after reduce_zero_label\), outside'
    with pytest.raises(UserError, match=words):
        check(runner(3), 0, batch(1, 299, 3, 255, reduce_zero_label=True))


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


def test_a_data_set_without_classes_is_evaluated_in_vain():
    run = runner(3)
    nameless = SimpleNamespace(dataset=SimpleNamespace(metainfo={}))
    run.val_loop = SimpleNamespace(dataloader=nameless)
    with pytest.raises(UserError, match='no names of classes.*metainfo='):
        SegLabelCheckHook().before_train(run)


def test_number_of_classes_of_every_head():
    hook = SegLabelCheckHook()
    hook.before_train(runner(3))
    hook.before_train(runner(3, 3))
    with pytest.raises(UserError, match=r'num_classes is 4.*3 classes'):
        hook.before_train(runner(3, 4))


@pytest.mark.parametrize('number', [2, 150])
def test_number_of_classes_of_auxiliary_heads(number):
    hook, run = SegLabelCheckHook(), runner(3)
    head = run.model.auxiliary_head = nn.Module()
    head.num_classes = 3
    hook.before_train(run)
    head.num_classes = number
    words = rf'auxiliary_head.num_classes is {number}, .* model.auxiliary_head'
    with pytest.raises(UserError, match=words):
        hook.before_train(run)
    good = nn.Module()
    good.num_classes = 3
    run.model.auxiliary_head = nn.ModuleList([good, head])
    with pytest.raises(UserError, match=r'auxiliary_head.1.num_classes is'):
        hook.before_train(run)
    run.model.auxiliary_head = None
    hook.before_train(run)


class TestClassesThatOccur:
    """In the label files of a training."""

    @pytest.fixture
    def warned(self, monkeypatch):
        words = []
        monkeypatch.setattr(
            seg_label_check_hook,
            'print_log',
            lambda m, *_, **__: words.append(m),
        )
        return words

    @pytest.fixture
    def check(self, tmp_path, warned):
        """With the ids of each file; the warnings."""
        from mmengine.registry import DATASETS, DefaultScope

        def call(*files, classes=3, repeat=False, ignored=255, **kwargs):
            num_files = kwargs.pop('num_files', 100)
            for i, ids in enumerate(files):
                array = np.array([ids], np.uint8)
                Image.fromarray(array).save(tmp_path / f'{i:02}.png')
            dataset = dict(
                type='mmseg.BaseSegDataset',
                img_suffix='.png',
                data_root=str(tmp_path),
                metainfo=dict(classes=tuple('abcdefgh'[:classes])),
                pipeline=[dict(type='mmea.LoadSegAnnotations')],
                **kwargs,
            )
            if repeat:
                dataset = dict(type='RepeatDataset', times=2, dataset=dataset)
            run = runner(classes)
            run.model.decode_head.ignore_index = ignored
            with DefaultScope.overwrite_default_scope('mmseg'):
                run.train_dataloader.dataset = DATASETS.build(dataset)
            SegLabelCheckHook(num_files=num_files).before_train(run)
            return warned

        return call

    @pytest.mark.parametrize('repeat', [False, True])
    def test_one_never(self, check, repeat):
        (words,) = check([0, 255], [2, 0], repeat=repeat)
        assert 'the 2 label images' in words
        assert "no pixel of 1 of the 3 classes: 'b'" in words

    def test_all(self, check):
        assert check([0, 255], [2, 1]) == []

    def test_binary_masks_of_0_and_255(self, check):
        words = "0 and 255 only, .* write 1 for 255, the id of 'b'"
        with pytest.raises(UserError, match=words):
            check([0, 255], [0, 0], classes=2)
        with pytest.raises(UserError, match='write 1 for 7'):
            check([0, 7], classes=2, ignored=7)

    def test_one_class_and_the_ignored_id(self, check):
        (words,) = check([1, 255], classes=2)
        assert "1 of the 2 classes: 'a'" in words

    def test_background_alone_is_a_warning(self, check):
        (words,) = check([0, 0], classes=2)
        assert "'b'" in words

    def test_all_ignored(self, check):
        with pytest.raises(UserError, match='ignored pixels only .id 255.'):
            check([255, 255], [255])
        with pytest.raises(UserError, match='reduce_zero_label'):
            check([0, 255], classes=2, reduce_zero_label=True)

    def test_wrong_ids_have_their_own_error(self, check):
        assert check([0, 9]) == []

    def test_some_files_from_all_over(self, check):
        """All of them only where these hold one class at most."""
        files = [[0, 1], [2, 2], [0, 1], [2, 2], [0, 0], [2, 2]]
        (words,) = check(*files, num_files=3)
        assert 'the 3 label images' in words and "classes: 'c'" in words

    def test_further_files_before_an_error(self, check, warned):
        files = [[0, 255]] * 5 + [[1, 0]]
        assert check(*files, classes=2, num_files=1) == []

    def test_no_look(self, check):
        assert check([255], num_files=0) == []


def test_the_ignored_id_of_many_classes(monkeypatch):
    words = []
    monkeypatch.setattr(
        seg_label_check_hook, 'print_log', lambda m, *_, **__: words.append(m)
    )
    run = runner(300)
    run.train_dataloader.dataset.metainfo['classes'] = ('a',) * 300
    SegLabelCheckHook().before_train(run)
    assert '255 is ignored, and one of the 300 classes' in words[0]
    SegLabelCheckHook(ignore_index=65535).before_train(run)
    assert len(words) == 1
