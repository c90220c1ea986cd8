_base_ = './camvid_240x320.py'

# The drive 0006R0 is left out of training and evaluated on: of CamVid's own
# validation images the drive is that of half of the training images.
drive = list(range(62, 163))  # of train.txt, in the order of the names
others = [i for i in range(367) if i not in drive]
train_dataloader = dict(dataset=dict(indices=others))
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(
            img_path='img_dir/train', seg_map_path='ann_dir/train'
        ),
        ann_file='train.txt',
        indices=drive,
    )
)
test_dataloader = val_dataloader
