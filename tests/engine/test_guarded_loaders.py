from types import SimpleNamespace

import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS

from mmea.engine.guarded_loaders import guard_loaders

pytest.importorskip('mmseg.models')

IMAGE = dict(type='mmea.LoadImage')
LABELS = dict(type='mmea.LoadSegAnnotations')
PACK = dict(type='PackSegInputs')


def guard(dataset, scope='mmseg', name='test', **cfg):
    """The data set's config after the guard."""
    cfg = dict(cfg, default_scope=scope)
    runner = SimpleNamespace(
        **{
            f'_{other}_dataloader': ConfigDict(dataset=dataset)
            if other == name
            else None
            for other in ('train', 'val', 'test')
        }
    )
    guard_loaders(runner, Config(cfg))
    return getattr(runner, f'_{name}_dataloader').dataset


def pipeline(*steps, **kwargs):
    return guard(dict(type='BaseSegDataset', pipeline=[*steps]), **kwargs)[
        'pipeline'
    ]


@pytest.mark.parametrize('name', ['train', 'val', 'test'])
def test_loaders_keep_their_arguments(name):
    got = pipeline(
        dict(type='LoadImageFromFile', to_float32=True),
        dict(type='mmseg.LoadAnnotations', imdecode_backend='cv2'),
        PACK,
        name=name,
    )
    assert got == [
        dict(IMAGE, to_float32=True),
        dict(LABELS, imdecode_backend='cv2'),
        PACK,
    ]


def test_classes_and_names_of_mmea_stay_valid():
    got = pipeline(dict(type=LoadImageFromFile), dict(IMAGE, exif='apply'))
    assert got == [IMAGE, dict(IMAGE, exif='apply')]


def test_nested_data_sets_and_pipelines():
    load = dict(type='mmengine.LoadImageFromFile')
    label = dict(type='LoadAnnotations')
    part = dict(type='BaseSegDataset', pipeline=[load, label])
    flips = [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)]
    mixed = dict(
        type='MultiImageMixDataset',
        dataset=dict(
            type='RepeatDataset',
            times=2,
            dataset=dict(type='ConcatDataset', datasets=[part, part]),
        ),
        pipeline=[
            dict(type='TestTimeAug', transforms=[flips, [label], [PACK]])
        ],
    )
    got = guard(mixed, name='train')
    for leaf in got.dataset.dataset.datasets:
        assert leaf.pipeline == [IMAGE, LABELS]
    assert got.pipeline[0].transforms == [flips, [LABELS], [PACK]]
    assert part['pipeline'] == [load, label]  # the runner's config


def test_labels_of_mmdet_stay():
    pytest.importorskip('mmdet.datasets')
    boxes = dict(type='LoadAnnotations', with_bbox=True)
    got = pipeline(dict(type='LoadImageFromFile'), boxes, scope='mmdet')
    assert got == [IMAGE, boxes]


def test_a_class_of_the_user_stays():
    class LoadImageFromFile2(LoadImageFromFile):
        pass

    own = dict(type='LoadImageFromFile2')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRANSFORMS, '_module_dict', {**TRANSFORMS._module_dict})
        TRANSFORMS.register_module(module=LoadImageFromFile2)
        assert pipeline(own) == [own]
        # Even under the name of the stack's.
        TRANSFORMS.register_module(
            name='LoadImageFromFile', module=LoadImageFromFile2, force=True
        )
        stack = dict(type='LoadImageFromFile')
        assert pipeline(stack) == [stack]


def test_the_ignored_id_is_that_of_the_data_set():
    got = guard(
        dict(
            type='BaseSegDataset',
            ignore_index=300,
            pipeline=[
                dict(type='LoadAnnotations'),
                dict(LABELS, ignore_index=7),
            ],
        )
    )
    assert [step.ignore_index for step in got.pipeline] == [300, 7]


def test_no_labels_where_nothing_is_compared():
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='TestTimeAug', transforms=[[LABELS], [PACK]]),
    ]
    evaluator = dict(type='IoUMetric', format_only=True)
    got = pipeline(*steps, test_evaluator=evaluator)
    assert got == [IMAGE, dict(type='TestTimeAug', transforms=[[PACK]])]
    assert len(pipeline(*steps, val_evaluator=evaluator)) == 3


def test_the_runner_reads_by_them_and_writes_the_stack_s(fails, run):
    """The file that the run leaves is what the stack's inferencers read."""
    from pathlib import Path

    from mmea.train import main

    label = Path('data/annotations/training/7.png')
    content = label.read_bytes()
    label.unlink()
    message = fails('--no-check')
    assert 'label image not found: data/annotations/training/7.png' in message
    label.write_bytes(content)
    options = '--cfg-options', 'train_cfg.max_iters=1'
    run(main, 'tiny.py', '--work-dir', 'work', *options)
    test = Config.fromfile('work/tiny.py').test_dataloader.dataset.pipeline
    assert [step['type'] for step in test] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'PackSegInputs',
    ]
