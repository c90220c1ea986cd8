_base_ = './retinanet_mobilenet-v2_fpn-w128.py'

# Four levels, P3 to P6, for smaller and for larger objects.
model = dict(
    neck=dict(num_outs=4),
    bbox_head=dict(
        # Squares of 12 to 152 px.
        anchor_generator=dict(octave_base_scale=1.5, strides=[8, 16, 32, 64]),
    ),
)
