"""Nets of configs, made small, that several tests run."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

import mmea
from mmea.models.segmentors.tile_probe import encode_decode
from mmea.registry import MODELS

EA_FPN = 'mobilenet_v2/ea_fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py'


def small_ea_fpn_config(
    change: Callable[[Any], object] | None = None, **changes: Any
) -> Config:
    """EA-FPN of five attentions, the head's behind the others.

    These are one layer.
    """
    cfg = Config.fromfile(mmea.config(EA_FPN))
    net = cfg.model
    net.backbone.update(init_cfg=None, widen_factor=0.25)
    net.data_preprocessor.size = None
    net.neck.update(in_channels=[8, 8, 24, 80], out_channels=16)
    net.neck = [
        net.neck,
        dict(type='mmea.EANeck', in_channels=[16] * 4, share=True),
    ]
    net.decode_head.update(in_channels=[16] * 4, channels=16, num_classes=5)
    net.update(changes)
    if change is not None:
        change(net)
    return cfg


def make_small_ea_fpn(**changes: Any) -> nn.Module:
    """Build it; its statistics, running ones and those of tokens, matter."""
    return make_lively(small_ea_fpn_config(**changes).model)


def make_lively(net: Any) -> nn.Module:
    """Build a segmentor and draw weights that make all of it matter."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(net))
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name.endswith(('_memory', 'proj.weight', 'norm.weight')):
                nn.init.normal_(param, std=0.5)
        # Running statistics that are those of the net.
        encode_decode(model.train(), torch.randn(2, 3, 128, 128))
        for param in model.parameters():
            param.mul_(1.3)
    return model.eval()
