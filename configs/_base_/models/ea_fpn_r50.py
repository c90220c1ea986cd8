_base_ = './fpn_r50.py'

# Semantic FPN with external attention on the merged map at stride 4.
# What `tools/train.py CONFIG --demo` changes in the model:
demo_model = '_base_/demo/ea_fpn.py'

model = dict(
    decode_head=dict(
        type='mmea.EAFPNHead',
        attention=dict(
            type='mmea.ExternalAttention2d',
            norm_cfg=_base_.norm_cfg,
            act_cfg=dict(type='ReLU'),
        ),
    )
)
