# A light backbone. Its last map has 1280 channels at this width too, and neck
# and head fit as they are.
model = dict(backbone=dict(widen_factor=0.5))
