# SAGAN for images of 32 pixels, as StudioGAN has it.
demo_model = '_base_/demo/sagan.py'

model = dict(
    type='mmea.GAN',
    generator=dict(
        type='mmea.SAGANGenerator',
        img_size=32,
        num_classes=10,
        attention=dict(type='mmea.SAGANAttention2d'),
    ),
    discriminator=dict(
        type='mmea.SAGANDiscriminator',
        img_size=32,
        num_classes=10,
        attention=dict(type='mmea.SAGANAttention2d'),
    ),
)
# Several processes; sync_bn='torch' on GPUs shares the norms' statistics.
model_wrapper_cfg = dict(type='mmea.GANDistributed')
