# A light backbone and a head to fit.
model = dict(
    backbone=dict(arch='H0', base_channels=32), head=dict(in_channels=128)
)
