_base_ = './mask-rcnn.py'

# A light backbone of the same kind; the widths of its maps are those of the
# ResNet there.
model = dict(
    backbone=dict(
        _delete_=True,
        embed_dims=32,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 4, 8),
        drop_path_rate=0.0,
        frozen_stages=-1,
    )
)
