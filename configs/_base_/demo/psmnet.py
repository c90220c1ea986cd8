# The basic form, narrower and of few blocks, for small images whose
# disparities are below 32.
model = dict(
    max_disp=32,
    form='basic',
    channels=16,
    num_blocks=(1, 1, 1, 1),
    pool_sizes=(8, 4, 2, 1),
)
