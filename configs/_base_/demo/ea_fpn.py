_base_ = './fpn.py'

# The attention too has a norm.
model = dict(decode_head=dict(attention=dict(norm_cfg=_base_.norm_cfg)))
