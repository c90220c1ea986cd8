_base_ = './schedule_points.py'

# Solids of parts that mmea renders, written as ShapeNet-part is. Six of the 16
# classes occur.
demo_scenes = dict(
    layout='shapenetpart', num_train=480, num_val=120, size=(256,), seed=0
)
data_root = 'data/demo/shapenetpart'
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    dataset=dict(data_root=data_root, num_points=256),
)
val_dataloader = dict(
    batch_size=24,
    num_workers=2,
    dataset=dict(data_root=data_root, num_points=256),
)
test_dataloader = val_dataloader
# The log says what a guess would give.
val_evaluator = dict(type='mmea.PartIoUMetric', guess=True)
test_evaluator = val_evaluator
custom_hooks = [dict(type='mmea.CloudPictureHook', up='y')]
