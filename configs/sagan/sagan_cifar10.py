_base_ = [
    '../_base_/models/sagan_32.py',
    '../_base_/datasets/cifar10_gan.py',
    '../_base_/schedules/gan_100k.py',
    '../_base_/default_runtime_mmengine.py',
]
model = dict(discriminator_steps=5)
