_base_ = './eanet_deep-stem.py'

# One more head to fit.
model = dict(
    auxiliary_head=dict(in_channels=128, channels=64, norm_cfg=_base_.norm_cfg)
)
