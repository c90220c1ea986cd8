_base_ = './mask-rcnn_r50_fpn.py'

# Mask R-CNN over EAMLP-7, whose one map becomes a pyramid.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/mask-rcnn_eamlp.py'

model = dict(
    # Padding takes part in the attention of EAMLP: nothing to tell it.
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(
        _delete_=True,
        type='mmea.EAMLP',
        arch='7',
        # Of the position embedding, which is resized to the image at hand.
        img_size=224,
        drop_path_rate=0.1,
        # From scratch; see configs/eamlp for converted weights.
        init_cfg=None,
    ),
    neck=dict(
        _delete_=True,
        type='mmea.SimpleFeaturePyramid',
        in_channels=256,
        out_channels=256,
        strides=[4, 8, 16, 32, 64],
        norm_cfg=dict(type='GN', num_groups=32),
    ),
)
