_base_ = [
    '../_base_/models/sagan_32.py',
    '../_base_/datasets/tiny_imagenet_gan.py',
    '../_base_/schedules/gan_100k.py',
    '../_base_/default_runtime_mmengine.py',
]
model = dict(
    generator=dict(img_size=64, num_classes=200),
    discriminator=dict(img_size=64, num_classes=200),
)
optim_wrapper = dict(
    generator=dict(optimizer=dict(lr=1e-4, betas=(0.0, 0.999))),
    discriminator=dict(optimizer=dict(lr=4e-4, betas=(0.0, 0.999))),
)
