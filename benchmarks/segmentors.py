"""Whole segmentors, so that the share of the block is plain."""

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import mmea.models  # noqa: F401
from mmea import config
from mmea.profiling import Step

SEGMENTORS = {
    'EA-FPN R-50': 'ea_fpn_ade20k.py',
    'EA-FPN MobileNetV2': (
        'mobilenet_v2/ea_fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py'
    ),
    'EANet R-50-D8': 'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py',
}
FORMS = {
    'no attention': None,
    'external, published form': dict(form='plain'),
    'external, low-rank (default)': dict(form='auto'),
    'non-local': dict(type='mmea.NonLocal2d'),
}
CROP, CLASSES = 512, 150


def make_step(form, name, mode, device, dtype) -> Step:
    """Make the step of a segmentor, whose attention has some form."""
    torch.manual_seed(0)
    cfg = Config.fromfile(config(SEGMENTORS[name])).model
    cfg.pop('pretrained', None)
    cfg.backbone.init_cfg = None
    options = FORMS[form]
    if options:
        cfg.decode_head.attention.update(options)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = revert_sync_batchnorm(MODELS.build(cfg)).to(device)
    if options is None:
        model.decode_head.attention = nn.Identity()
    labels = torch.randint(CLASSES, (1, CROP, CROP), device=device)
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=labels),
        metainfo=dict(img_shape=(CROP, CROP)),
    )

    def run(x):
        if mode == 'inference':
            return model(x)
        # No gradient of the image.
        losses = model(x.detach(), [sample], mode='loss')
        return model.parse_losses(losses)[0]

    x = torch.randn(1, 3, CROP, CROP, device=device)
    return Step(model, x, mode=mode, dtype=dtype, run=run)
