_base_ = './faster-rcnn_ea-neck.py'

# Lists are replaced whole.
fpn, ea_neck = _base_.model.neck
model = dict(neck=[fpn, dict(ea_neck, share=True)])
del fpn, ea_neck
