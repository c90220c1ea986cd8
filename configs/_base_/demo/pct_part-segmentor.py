# A narrow net.
model = dict(
    backbone=dict(stem_channels=64, out_channels=256),
    in_channels=256,
    class_channels=32,
    hidden_channels=128,
)
