"""The text of a new config."""

from collections.abc import Sequence
from pprint import pformat
from typing import Any

from .layout import Layout
from .palette import make_palette

__all__ = ['BESIDE', 'write_detection', 'write_segmentation']

#: Pixels of the longer side, so that a CPU can train.
LONGEST = 512
#: mmengine puts the config's folder in its place.
BESIDE = '{{ fileDirname }}'
#: Crops and maps come out even.
STEP = 32

# A seed, the bases, and what depends on the length of the training.
HEAD = """\
# Written by `mmea new`, to be changed as you like. The data:
# {about}.
_base_ = [
    __import__('mmea').config('_base_/models/{model}.py'),
    __import__('mmea').config('_base_/schedules/{schedule}.py'),
    __import__('mmea').config('_base_/{runtime}.py'),
]
# The length of the training, in steps of {batch} images: 400 are for a first
# look, ten times as many for a good result.
max_iters = {max_iters}

classes = {classes}
palette = {palette}
{scale}
"""

SCHEDULE = """
warmup = max(max_iters // 10, 1)
interval = max(max_iters // 4, 1)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, begin=0, end=warmup, by_epoch=False
    ),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=0.9,
        begin=warmup,
        end=max_iters,
        by_epoch=False,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=interval)
default_hooks = dict(checkpoint=dict(interval=interval))
randomness = dict(seed=0)
"""

SEGMENTATION = """
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=len(classes)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=scale,
        ratio_range=(0.75, 1.5),
        keep_ratio=True,
    ),
    # Look for a crop that is not of one class alone.
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After the resize: ground truth is compared at the image's own size.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# Where the data lie; a relative path counts from where you start mmea.
data = dict(
    type='BaseSegDataset',
    data_root={root},
    img_suffix={img_suffix},
    seg_map_suffix={seg_map_suffix},
    metainfo=dict(classes=classes, palette=palette),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **data,
{train}
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **data,
{val}
        pipeline=test_pipeline,
    ),
)
{test}
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
custom_hooks = [
    dict(type='mmea.SegLabelCheckHook'),
    # predictions.png in the work dir
    dict(type='mmea.SegPictureHook'),
]
"""

PART = """\
        data_prefix=dict(
            img_path={images},
            seg_map_path={labels},
        ),
        ann_file={names},"""

TEST = """\
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **data,
{test}
        pipeline=test_pipeline,
    ),
)"""

RETINANET = """
# FPN, then one block of external attention for all of its levels.
model = dict(
    neck=[
        dict(
            type='FPN',
            in_channels=[24, 32, 96, 1280],
            out_channels=128,
            start_level=1,
            add_extra_convs='on_output',
            norm_cfg=dict(type='BN', requires_grad=True),
            num_outs=5,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[128] * 5,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ],
    bbox_head=dict(
        num_classes=len(classes),
        # Squares from {smallest} px on.
        anchor_generator=dict(
            octave_base_scale={anchor}, strides=[8, 16, 32, 64, 128]
        ),
    ),
)
"""

MASK_RCNN = """
# FPN, then one block of external attention for all of its levels.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),
        norm_cfg=norm_cfg,
        # To train without: init_cfg=None
        init_cfg=dict(
            type='mmea.Pretrained',
            checkpoint='https://download.pytorch.org/models/'
            'mobilenet_v2-b0353104.pth',
        ),
    ),
    neck=[
        dict(
            type='FPN',
            in_channels=[24, 32, 96, 1280],
            out_channels=64,
            norm_cfg=norm_cfg,
            num_outs=5,
        ),
        dict(
            type='mmea.EANeck',
            in_channels=[64] * 5,
            share=True,
            attention=dict(type='mmea.ExternalAttention2d'),
        ),
    ],
    # Squares from {smallest} px on.
    rpn_head=dict(
        anchor_generator=dict(scales=[{anchor}], strides=[4, 8, 16, 32, 64])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(finest_scale={smallest}),
        bbox_head=dict(num_classes=len(classes)),
        mask_roi_extractor=dict(finest_scale={smallest}),
        mask_head=dict(num_classes=len(classes)),
    ),
)
"""

DETECTION = """
load_annotations = dict(type='LoadAnnotations', with_bbox=True{with_mask})
resize = dict(type='Resize', scale=scale, keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    # After the resize: ground truth is compared at the image's own size.
    load_annotations,
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
# Where the data lie; a relative path counts from where you start mmea.
data = dict(
    type='CocoDataset', metainfo=dict(classes=classes, palette=palette)
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **data,
        ann_file={train_file},
        data_prefix=dict(img={train_images}),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_file = {val_file}
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **data,
        ann_file=val_file,
        data_prefix=dict(img={val_images}),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=val_file, metric={metric}, classwise=True
)
test_evaluator = val_evaluator
log_processor = dict(by_epoch=False)
# predictions.png in the work dir
custom_hooks = [dict(type='mmea.DetPictureHook')]
"""


def write_segmentation(
    layout: Layout,
    lists: dict[str, str],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    size: tuple[int, int],
    max_iters: int,
) -> str:
    """Write a Semantic FPN over MobileNetV2 with external attention.

    Args:
        layout (Layout): Where the files lie.
        lists (dict[str, str]): By split, the file of its names, which is
            beside the config.
        classes (Sequence[str]): Names.
        palette (Sequence[Sequence[int]]): RGB of each class.
        size (tuple[int, int]): (H, W) of a typical image.
        max_iters (int): Length of the training.

    Returns:
        str: The config.
    """
    height, width = shrink(size)
    crop = tuple(max(side // STEP * STEP, STEP) for side in (height, width))
    parts = {
        split: PART.format(
            images=repr(layout.parts[split].images),
            labels=repr(layout.parts[split].labels),
            names=repr(f'{BESIDE}/{name}'),
        )
        for split, name in lists.items()
    }
    test = (
        TEST.format(test=parts['test'])
        if 'test' in parts
        else 'test_dataloader = val_dataloader'
    )
    numbers = {split: len(layout.parts[split].names) for split in lists}
    head = HEAD.format(
        about=_about(numbers, size),
        model='fpn_mobilenet-v2_xavier',
        schedule='adamw_short',
        runtime='default_runtime',
        batch=4,
        max_iters=max_iters,
        classes=_literal(tuple(classes)),
        palette=_literal(list(palette)),
        scale=f'# (W, H) that images are fitted into, and (H, W) of crops.\n'
        f'scale = ({width}, {height})\ncrop_size = {crop}',
    )
    return (
        head
        + SCHEDULE
        + SEGMENTATION.format(
            root=repr(layout.root.as_posix()),
            img_suffix=repr(layout.img_suffix),
            seg_map_suffix=repr(layout.seg_map_suffix),
            train=parts['train'],
            val=parts['val'],
            test=test,
        )
    )


def write_detection(
    files: dict[str, tuple[str, str]],
    numbers: dict[str, int],
    classes: Sequence[str],
    size: tuple[int, int],
    small: float,
    masks: bool,
    max_iters: int,
) -> str:
    """Write a RetinaNet or Mask R-CNN over MobileNetV2.

    Args:
        files (dict[str, tuple[str, str]]): Of 'train' and 'val', annotation
            file and folder of the images.
        numbers (dict[str, int]): Images of each.
        classes (Sequence[str]): Names, in the order of the files.
        size (tuple[int, int]): (H, W) of a typical image.
        small (float): Side in pixels that three quarters of the boxes exceed.
        masks (bool): Whether to predict masks, by Mask R-CNN.
        max_iters (int): Length of the training.

    Returns:
        str: The config.
    """
    height, width = shrink(size)
    small *= height / size[0]
    # The finest level has stride 4 or 8; larger objects have coarser ones.
    stride = 4 if masks else 8
    largest = 8 if masks else 4
    anchor = max(min(largest, int(small) // stride), 2)
    head = HEAD.format(
        about=_about(numbers, size),
        model='mask-rcnn_r18-w32_fpn'
        if masks
        else 'retinanet_mobilenet-v2_fpn-w128',
        schedule='adamw_short_detection',
        runtime='default_runtime_det',
        batch=4,
        max_iters=max_iters,
        classes=_literal(tuple(classes)),
        palette=_literal(make_palette(len(classes), background=False)),
        scale=f'# (W, H) that images are fitted into.\n'
        f'scale = ({width}, {height})',
    )
    net = (MASK_RCNN if masks else RETINANET).format(
        smallest=stride * anchor, anchor=anchor
    )
    return (
        head
        + SCHEDULE
        + net
        + DETECTION.format(
            with_mask=', with_mask=True' if masks else '',
            train_file=repr(files['train'][0]),
            train_images=repr(files['train'][1]),
            val_file=repr(files['val'][0]),
            val_images=repr(files['val'][1]),
            metric="['bbox', 'segm']" if masks else "'bbox'",
        )
    )


def shrink(size: tuple[int, int]) -> tuple[int, int]:
    """Fit (H, W) into what a CPU can train."""
    factor = min(1.0, LONGEST / max(size))
    height, width = (max(round(side * factor), 1) for side in size)
    return height, width


def _about(numbers: dict[str, int], size: tuple[int, int]) -> str:
    images = ', '.join(f'{n} {split} images' for split, n in numbers.items())
    return f'{images}, mostly of {size[0]} x {size[1]} px (H x W)'


def _literal(value: Any) -> str:
    """Write a sequence in short lines."""
    text = pformat(value, width=78, compact=True)
    if '\n' not in text:
        return text
    start, inner, end = text[0], text[1:-1], text[-1]
    lines = [line.strip() for line in inner.splitlines()]
    return '\n'.join([start, *(f'    {line}' for line in lines), end])
