_base_ = [
    '../_base_/models/fpn_eamlp-7.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/160k_adamw.py',
    '../_base_/default_runtime.py',
]
# The causal path of CaaM's T2T-ViT-7, from scratch. Needs mmpretrain.
demo_model = '_base_/demo/fpn_caam-t2t-vit.py'
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='mmea.CaaMT2TViT',
        # Of the position embedding, which is resized to the image at hand.
        img_size=512,
        drop_path_rate=0.1,
        out_type='featmap',
    ),
    decode_head=dict(num_classes=150),
)
