"""The classifier and the part segmentor beside their oracle."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import nn

pytest.importorskip('mmcv')

from mmea.errors import UserError
from mmea.point_clouds.blocks import smoothed_loss
from mmea.registry import MODELS

BACKBONE = dict(
    type='mmea.PCT',
    stem_channels=4,
    num_points=(9, 5),
    num_neighbours=3,
    out_channels=12,
)
CLASSIFIER = dict(
    type='mmea.PointCloudClassifier',
    backbone=BACKBONE,
    num_classes=3,
    in_channels=12,
    hidden_channels=(8, 6),
    dropout=0.0,
)
SEGMENTOR = dict(
    type='mmea.PointPartSegmentor',
    backbone=dict(BACKBONE, num_points=(), position=False),
    num_parts=5,
    num_classes=2,
    in_channels=12,
    class_channels=4,
    hidden_channels=8,
    dropout=0.0,
)


def build(cfg, **kwargs):
    torch.manual_seed(0)
    return MODELS.build({**cfg, **kwargs}).double()


def batch(size=3, number=20, parts=False):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, number, generator=generator).double()
    samples = []
    for i in range(size):
        sample = BaseDataElement(gt_label=torch.tensor([i % 2]))
        if parts:
            sample.gt_parts = (torch.arange(number) + i) % 5
        samples.append(sample)
    return x, samples


@pytest.mark.parametrize('size', [(4, 3), (2, 5, 7)])
def test_smoothed_loss(size):
    """The share of each class, one by one."""
    logits = torch.randn(size).double()
    labels = torch.randint(size[1], (size[0], *size[2:]))
    target = F.one_hot(labels, size[1]).movedim(-1, 1).double()
    target = 0.8 * target + (1 - target) * 0.2 / (size[1] - 1)
    want = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(smoothed_loss(logits, labels, 0.2), want)
    torch.testing.assert_close(
        smoothed_loss(logits, labels, 0.0), F.cross_entropy(logits, labels)
    )
    half = smoothed_loss(logits.half(), labels, 0.2)
    assert half.dtype == torch.float32


def test_classifier():
    model, (x, samples) = build(CLASSIFIER), batch()
    logits = model(x)
    losses = model(x, samples, 'loss')
    labels = torch.tensor([0, 1, 0])
    torch.testing.assert_close(
        losses['loss'], smoothed_loss(logits, labels, 0.2)
    )
    right = logits.argmax(1).eq(labels).sum() / 3 * 100
    torch.testing.assert_close(losses['accuracy'], right)
    losses['loss'].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    logits = model(x)
    for given in (samples, None):
        out = model(x, given, 'predict')
        for sample, row in zip(out, logits, strict=True):
            torch.testing.assert_close(sample.pred_score, row.softmax(0))
            assert sample.pred_label.tolist() == [row.argmax()]
    # A batch of one, and no hidden layer.
    torch.testing.assert_close(model(x[:1]), logits[:1])
    linear = build(CLASSIFIER, hidden_channels=()).eval()
    want = linear.head[0](linear.backbone(x).amax(2))
    torch.testing.assert_close(linear(x), want)


def test_part_segmentor():
    model, (x, samples) = build(SEGMENTOR), batch(parts=True)
    logits = model(x, samples)
    assert logits.shape == (3, 5, 20)
    losses = model(x, samples, 'loss')
    parts = torch.stack([sample.gt_parts for sample in samples])
    torch.testing.assert_close(
        losses['loss'], smoothed_loss(logits, parts, 0.2)
    )
    losses['loss'].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    logits = model(x, samples)
    for sample, row in zip(model(x, samples, 'predict'), logits, strict=True):
        assert torch.equal(sample.pred_parts, row.argmax(0))
    other = [BaseDataElement(gt_label=torch.tensor([1])) for _ in x]
    moved = model(x, other) - logits
    assert moved[0].abs().max() > 0  # the class is read
    torch.testing.assert_close(moved[1], 0 * moved[1])


def test_bad_labels():
    x, samples = batch(parts=True)
    for cfg, field, value, match in (
        (
            CLASSIFIER,
            'gt_label',
            3,
            r'scan.off has gt_label from 3 to 3, but ',
        ),
        (CLASSIFIER, 'gt_label', -1, r'knows 0..2'),
        (SEGMENTOR, 'gt_label', 2, r'knows 0..1'),
        (SEGMENTOR, 'gt_parts', 5, r'gt_parts from 5 to 5, .* knows 0..4'),
    ):
        sample = samples[1].clone()
        sample.set_field(torch.full_like(sample.get(field), value), field)
        sample.set_metainfo(dict(path='scan.off'))
        with pytest.raises(UserError, match=match):
            build(cfg)(x, [samples[0], sample, samples[2]], 'loss')
    bare = [BaseDataElement() for _ in x]
    for given in (bare, None):
        with pytest.raises(UserError, match='cloud 0 of .* has no gt_label'):
            build(CLASSIFIER)(x, given, 'loss')
    with pytest.raises(UserError, match='cloud 0 .* has no gt_parts'):
        build(SEGMENTOR)(x, batch()[1], 'loss')


@pytest.mark.parametrize('cfg', [CLASSIFIER, SEGMENTOR])
def test_a_batch_of_one(cfg):
    """Its batch norms of whole clouds have no statistics; others do."""
    x, samples = batch(1, parts=True)
    with pytest.raises(UserError, match='batch_size to 2 or more'):
        build(cfg)(x, samples, 'loss')
    norm = dict(type='GN', num_groups=2)
    cfg = dict(cfg, backbone=dict(cfg['backbone'], norm_cfg=norm))
    loss = build(cfg, norm_cfg=norm)(x, samples, 'loss')['loss']
    assert loss.isfinite()


def test_modes():
    with pytest.raises(ValueError, match="mode='losses'"):
        build(CLASSIFIER)(*batch(), 'losses')


def test_amp():
    model = build(CLASSIFIER).float()
    x, samples = batch()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(x.float(), samples, 'loss')['loss']
    exact = model.double()(x, samples, 'loss')['loss']
    assert loss.dtype == torch.float32
    assert abs(loss - exact) < 0.1
    assert isinstance(model.head[1], nn.BatchNorm1d)
