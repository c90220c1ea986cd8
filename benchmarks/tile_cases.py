"""Nets and images of benchmarks/tiles.py."""

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

import mmea
from mmea.models.segmentors.tile_probe import encode_decode
from mmea.registry import MODELS

NETS = {
    'EA-FPN, MobileNetV2': (
        'mobilenet_v2/ea_fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py'
    ),
    'EA-FPN, R-50': 'ea_fpn_ade20k.py',
    'EANet, R-50-d8': 'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py',
}


def make_image(height: int, width: int, path: str | None = None) -> np.ndarray:
    """Render shapes of many sizes, brighter to the right."""
    if path is None:
        image = np.zeros((height, width, 3), np.uint8)
    else:
        shape = (height, width, 3)
        image = np.lib.format.open_memmap(path, 'w+', np.uint8, shape)
    rng = np.random.default_rng(0)
    block = 512
    for top in range(0, height, block):
        for left in range(0, width, block):
            part = image[top : top + block, left : left + block]
            light = 0.3 + 0.7 * left / width
            scene = np.full((block, block, 3), rng.integers(0, 256, 3))
            scene = np.ascontiguousarray(scene.astype(np.uint8))
            for _ in range(20):
                centre = rng.integers(0, block, 2).tolist()
                colour = rng.integers(0, 256, 3).tolist()
                radius = int(rng.integers(4, 90))
                cv2.circle(scene, centre, radius, colour, -1)
            scene = scene * light + rng.normal(0, 8, scene.shape)
            part[:] = scene.clip(0, 255)[: part.shape[0], : part.shape[1]]
    return image


def make_net(name: str) -> nn.Module:
    """Build a net with weights by which attention and statistics matter."""
    cfg = Config.fromfile(mmea.config(NETS[name]))
    init_default_scope('mmseg')
    net = cfg.model
    net.backbone.update(init_cfg=None, pretrained=None)
    net.pretrained = None
    net.data_preprocessor.size = None
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(net))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, mmea.ExternalAttention2d):
                nn.init.normal_(module.key_memory, std=0.5)
                if module.norm is not None:
                    nn.init.ones_(module.norm.weight)
        # Running statistics that are those of the net.
        x, _ = prepare(model, make_image(512, 512))
        for _ in range(3):
            encode_decode(model.train(), torch.cat([x, x.flip(2)]))
    return model.eval()


def prepare(model: nn.Module, image: np.ndarray) -> tuple[torch.Tensor, tuple]:
    """Prepare an image as the preprocessor does, padded to 32 pixels."""
    size = image.shape[:2]
    prepared = model.data_preprocessor
    x = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None]
    x = (x - prepared.mean) / prepared.std
    return nn.functional.pad(x, (0, -size[1] % 32, 0, -size[0] % 32)), size
