_base_ = './imagenet_sgd_100e.py'

# MobileNets as mmpretrain trains them: 300 epochs of SGD, the rate 2 % lower
# after each; for 8 GPUs with 32 images each.
max_epochs = 300

optim_wrapper = dict(optimizer=dict(lr=0.045, weight_decay=0.00004))
param_scheduler = [
    dict(
        type='StepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        step_size=1,
        gamma=0.98,
    )
]
train_cfg = dict(max_epochs=max_epochs)
