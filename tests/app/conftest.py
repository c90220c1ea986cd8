from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmea.app import Found
from mmea.engine.config import load_config
from mmea.inference import Predictor

from ..conftest import write_project

CONFIG = """
_base_ = 'tiny.py'
model = dict(
    neck=[dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=8,
               num_outs=4),
          dict(type='mmea.EANeck', in_channels=[8] * 4, levels=[0, 2])],
    decode_head=dict(attention=dict(
        _delete_=True, type='mmea.EfficientAttention2d')))
"""


def make_segmentor(root) -> Predictor:
    """Of random weights; its last layer has pixels that read pixels."""
    from mmengine.registry import MODELS, init_default_scope
    from mmseg.datasets import ADE20KDataset

    write_project(root)
    (root / 'reads.py').write_text(CONFIG)
    cfg = load_config(str(root / 'reads.py'))
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    return Predictor(model, cfg, dict(ADE20KDataset.METAINFO))


@pytest.fixture
def segmentor(tmp_path, monkeypatch) -> Predictor:
    monkeypatch.chdir(tmp_path)
    return make_segmentor(tmp_path)


@pytest.fixture(scope='session')
def detected() -> tuple:
    """A detector in name, and what it found in a photograph: three boxes."""
    structures = pytest.importorskip('mmdet.structures')
    boxes = [[1, 2, 11, 22], [0, 0, 5, 5], [3, 4, 33, 14]]
    sample = structures.DetDataSample(
        ori_shape=(64, 80),
        pred_instances=InstanceData(
            bboxes=torch.tensor(boxes).float(),
            labels=torch.tensor([0, 1, 1]),
            scores=torch.tensor([0.4, 0.1, 0.8]),
        ),
    )
    model = SimpleNamespace(
        model=nn.Identity(),
        cfg=SimpleNamespace(filename='boxes.py', default_scope='mmdet'),
        meta=dict(classes=('cat', 'dog'), palette=[(255, 0, 0), (0, 0, 255)]),
    )
    return model, Found('a.jpg', np.full((64, 80, 3), 90, np.uint8), sample)
