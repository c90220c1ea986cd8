# Clothing Co-Parsing, its 59 labels merged to 12 classes and its photos halved
# to 275 x 401..436 px: img_dir/SPLIT, ann_dir12/SPLIT and lists of names.
dataset_type = 'BaseSegDataset'
data_root = 'data/ccp'
metainfo = dict(
    classes=(
        'background',
        'skin',
        'hair',
        'footwear',
        'bag',
        'trousers',
        'shorts',
        'skirt',
        'dress',
        'upper',
        'outer',
        'accessory',
    ),
    palette=[
        [0, 0, 0],
        [245, 200, 170],
        [120, 70, 20],
        [230, 25, 75],
        [255, 225, 25],
        [0, 130, 200],
        [70, 240, 240],
        [145, 30, 180],
        [240, 50, 230],
        [60, 180, 75],
        [0, 100, 80],
        [245, 130, 48],
    ],
)
# Training sees crops, upright as the photos are; evaluation whole images.
crop_size = (320, 240)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(275, 436),
        # The smallest is as wide as a crop.
        ratio_range=(0.875, 1.5),
        keep_ratio=True,
    ),
    # Three quarters are background: look for a crop that holds 5 % of else.
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix=dict(
            img_path='img_dir/train', seg_map_path='ann_dir12/train'
        ),
        ann_file='train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir12/val'),
        ann_file='val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
