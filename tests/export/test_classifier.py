"""Classifiers as graphs, by value."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

pytest.importorskip('mmpretrain.models')

from mmea.export import write  # noqa: E402
from mmea.export.check import picture  # noqa: E402
from mmea.export.writer import make_graph  # noqa: E402

MEAN, STD = [120.0, 110.0, 90.0], [60.0, 50.0, 40.0]
CLASSIFIER = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', num_classes=5, mean=MEAN, std=STD
    ),
    backbone=dict(
        type='mmea.StageAttentionResNet',
        after=['C3'],
        attention=dict(type='mmea.ExternalAttention2d', num_slots=5),
        depth=18,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        base_channels=4,
        stem_channels=4,
        init_cfg=None,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=8),
)


def build(to_rgb):
    torch.manual_seed(0)
    cfg = Config(dict(model=CLASSIFIER)).model
    cfg.data_preprocessor.to_rgb = to_rgb
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg).eval()
    # Scores that are far from each other.
    nn.init.normal_(model.head.fc.weight, std=3.0)
    return model


def by_hand(model, image, to_rgb):
    x = image.float() if to_rgb else image.float().flip(1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    maps = model.backbone((x - mean) / std)[-1]
    return model.head.fc(maps.mean((2, 3))).softmax(1)


@torch.no_grad()
@pytest.mark.parametrize('to_rgb', [True, False])
def test_eager_graph(to_rgb):
    model = build(to_rgb)
    graph = make_graph(model)
    for shape in [(3, 3, 40, 56), (1, 3, 65, 33)]:
        image = picture(shape[0], *shape[1:])
        labels, scores = graph(image)
        want = by_hand(model, image, to_rgb)
        torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-5)
        assert torch.equal(labels, want.argmax(1))
        found = graph.predict(model, image)
        assert graph.compare([labels, scores], found) == ''
        assert 'scores differ' in graph.compare(
            [labels, scores.flip(1)], found
        )


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize('name', ['a.onnx', 'a.pt2'])
def test_classifier_of_any_size(tmp_path, name):
    onnxruntime = pytest.importorskip('onnxruntime')
    model, path = build(True), tmp_path / name
    assert write(model, path) == f'{path}: labels, scores'
    image = picture(3, 3, 70, 101)
    if path.suffix == '.pt2':
        labels, scores = torch.export.load(path).module()(image)
    else:
        session = onnxruntime.InferenceSession(
            path, providers=['CPUExecutionProvider']
        )
        labels, scores = map(
            torch.from_numpy, session.run(None, dict(image=image.numpy()))
        )
    want = by_hand(model, image, True)
    torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-5)
    assert torch.equal(labels, want.argmax(1))
