default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer'
)
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False

# Compares the label ids of every batch with the classes of the data set.
# A config that sets `custom_hooks` replaces this list: repeat the entry.
custom_hooks = [dict(type='mmea.SegLabelCheckHook')]

# Used by `tools/test.py --tta` together with the `tta_pipeline` of the data.
tta_model = dict(type='SegTTAModel')
