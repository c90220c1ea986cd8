# Narrow networks of six classes, and one step of the discriminator.
model = dict(
    generator=dict(img_size=32, num_classes=6, base_channels=8),
    discriminator=dict(img_size=32, num_classes=6, base_channels=16),
    discriminator_steps=1,
)
