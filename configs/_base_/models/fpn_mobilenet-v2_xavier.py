_base_ = './fpn_mobilenet-v2.py'

# For short trainings from pretrained weights: with mmseg's own start of the
# last layer, N(0, 0.01^2), 800 iterations do not learn rare classes.
model = dict(
    decode_head=dict(
        init_cfg=dict(
            type='Xavier',
            distribution='uniform',
            override=dict(name='conv_seg'),
        )
    )
)
