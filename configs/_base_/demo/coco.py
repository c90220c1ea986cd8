_base_ = './schedule_detection.py'

# The scenes that mmea renders, written as COCO is.
demo_scenes = dict(
    layout='coco', num_train=240, num_val=60, size=(128, 128), seed=0
)
data_root = 'data/demo/coco/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # Images of several sizes in a batch, as in COCO.
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='Resize', scale_factor=factor, keep_ratio=True)]
            for factor in (0.75, 0.875, 1.0)
        ],
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
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
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader

# The scenes show few of the classes: the table holds those that occur.
val_evaluator = dict(
    type='mmea.PresentClassCocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    classwise=True,
)
test_evaluator = val_evaluator
