# A narrow net for small clouds.
model = dict(
    backbone=dict(
        stem_channels=16,
        num_points=(128, 64),
        num_neighbours=16,
        out_channels=256,
    ),
    in_channels=256,
    hidden_channels=(128, 64),
)
