_base_ = [
    '../_base_/models/volo_cls.py',
    '../_base_/datasets/imagenet_randaug.py',
    '../_base_/schedules/imagenet_adamw_310e_volo.py',
    '../_base_/default_runtime_cls.py',
]
# ELSA in the place of outlook attention; VOLO gives it the sizes of its
# authors' block.
model = dict(backbone=dict(attention=dict(type='mmea.ELSA2d')))
train_dataloader = dict(batch_size=128)
