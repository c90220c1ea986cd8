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

SEGMENTORS = {
    'EA-FPN R-50': 'ea_fpn_ade20k.py',
    'EANet R-50-D8': 'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py',
}
FORMS = {
    'no attention': None,
    'external, published form': dict(form='plain'),
    'external, low-rank (default)': dict(form='auto'),
    'non-local': dict(type='mmea.NonLocal2d'),
}
CROP, CLASSES = 512, 150


class Segmentor:
    """A segmentor from a config, ready to run one mode on one crop."""

    def __init__(self, name, form, mode, device, dtype):
        torch.manual_seed(0)
        self.mode, self.device, self.dtype = mode, device, dtype
        cfg = Config.fromfile(config(SEGMENTORS[name])).model
        cfg.pop('pretrained', None)
        cfg.backbone.init_cfg = None
        options = FORMS[form]
        if options:
            cfg.decode_head.attention.update(options)
        with DefaultScope.overwrite_default_scope('mmseg'):
            model = MODELS.build(cfg)
        self.model = revert_sync_batchnorm(model).to(device)
        if options is None:
            self.model.decode_head.attention = nn.Identity()
        self.model.train(mode == 'training')
        self.x = torch.randn(1, 3, CROP, CROP, device=device)
        labels = torch.randint(CLASSES, (1, CROP, CROP), device=device)
        self.samples = [
            SegDataSample(
                gt_sem_seg=PixelData(data=labels),
                metainfo=dict(img_shape=(CROP, CROP)),
            )
        ]

    def step(self):
        with torch.autocast(
            self.device, self.dtype, enabled=self.dtype != torch.float32
        ):
            if self.mode == 'inference':
                with torch.inference_mode():
                    self.model(self.x)
                return
            losses = self.model(self.x, self.samples, mode='loss')
        self.model.zero_grad()
        self.model.parse_losses(losses)[0].backward()
