# PSMNet with stacked hourglasses, as published.
model = dict(
    type='mmea.PSMNet',
    max_disp=192,
    data_preprocessor=dict(type='mmea.StereoDataPreprocessor'),
)
demo_model = '_base_/demo/psmnet.py'
