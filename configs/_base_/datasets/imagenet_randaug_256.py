_base_ = './imagenet_randaug.py'

# The same at 256x256; tests see the whole shorter side.
sizes = dict(
    RandomResizedCrop=dict(scale=256),
    ResizeEdge=dict(scale=256),
    CenterCrop=dict(crop_size=256),
)
train_pipeline = [
    dict(step, **sizes.get(step['type'], {})) for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, **sizes.get(step['type'], {})) for step in _base_.test_pipeline
]
tta_pipeline = [*test_pipeline[:-1], _base_.flips]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
