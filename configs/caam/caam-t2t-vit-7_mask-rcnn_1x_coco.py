_base_ = [
    '../_base_/models/mask-rcnn_eamlp-7.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/default_runtime_det.py',
]
# The causal path of CaaM's T2T-ViT-7, from scratch. Needs mmpretrain.
demo_model = '_base_/demo/mask-rcnn_caam-t2t-vit.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmea.CaaMT2TViT',
        # Of the position embedding, which is resized to the image at hand.
        img_size=800,
        drop_path_rate=0.1,
        out_type='featmap',
    ),
)
