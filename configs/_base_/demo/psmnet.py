# A narrow net of few blocks for small images, whose disparities are below 32.
model = dict(
    max_disp=32,
    channels=8,
    num_blocks=(1, 2, 1, 1),
    pool_sizes=(16, 8, 4, 2),
)
