import pytest
import torch
from mmengine.structures import BaseDataElement

pytest.importorskip('mmcv')

from mmea.errors import UserError
from mmea.registry import MODELS

PUBLISHED = dict(dropout=0.875, scale=(2 / 3, 3 / 2), shift=0.2, shuffle=True)


def build(**kwargs):
    cfg = dict(type='mmea.PointCloudDataPreprocessor', **kwargs)
    return MODELS.build(cfg)


def batch(size=2, number=50, channels=3):
    torch.manual_seed(0)
    clouds = [torch.randn(number, channels) + i for i in range(size)]
    samples = [BaseDataElement(gt_parts=torch.arange(number)) for _ in clouds]
    return dict(inputs=clouds, data_samples=samples)


def test_normalised():
    data = batch(3, channels=5)
    data['inputs'][2][:, :3] = 4.0  # all in one place
    out = build()(data)['inputs']
    assert out.shape == (3, 5, 50)
    for got, cloud in zip(out[:2], data['inputs']):
        xyz = cloud[:, :3] - cloud[:, :3].mean(0)
        torch.testing.assert_close(got[:3].t(), xyz / xyz.norm(dim=1).max())
        assert torch.equal(got[3:].t(), cloud[:, 3:])
    assert out[2, :3].abs().max() == 0
    plain = build(normalize=False)(data)['inputs']
    assert torch.equal(plain, torch.stack(data['inputs']).mT)


def test_nothing_varies_in_a_test():
    data = batch()
    out = build(**PUBLISHED)(data)
    assert torch.equal(out['inputs'], build()(data)['inputs'])


def test_scale_and_shift():
    """An affine map of each axis, within its bounds, of each cloud."""
    data = batch(40)
    data['inputs'] = [cloud.double() for cloud in data['inputs']]
    torch.manual_seed(1)
    out = build(normalize=False, scale=(0.5, 2), shift=0.3)(data, True)
    x, y = torch.stack(data['inputs']).mT, out['inputs']
    scale = (y[..., 1] - y[..., 0]) / (x[..., 1] - x[..., 0])
    shift = y[..., 0] - scale * x[..., 0]
    torch.testing.assert_close(y, scale[..., None] * x + shift[..., None])
    assert 0.5 <= scale.min() < 0.6 and 1.8 < scale.max() <= 2
    assert -0.3 <= shift.min() < -0.25 and 0.25 < shift.max() <= 0.3
    assert scale.std(0).min() > 0.1 and scale.std(1).min() > 0


def test_shuffle():
    data = batch(2)
    out = build(normalize=False, shuffle=True)(data, True)
    orders = [sample.gt_parts for sample in out['data_samples']]
    assert not torch.equal(*orders)
    for got, cloud, order in zip(out['inputs'], data['inputs'], orders):
        assert torch.equal(order.sort()[0], torch.arange(50))
        assert torch.equal(got.t(), cloud[order])
    # The data set's own samples are as they were.
    assert torch.equal(data['data_samples'][0].gt_parts, torch.arange(50))


def test_dropout():
    data = batch(60)
    torch.manual_seed(1)
    out = build(normalize=False, dropout=0.875)(data, True)
    shares = []
    for got, cloud, sample in zip(
        out['inputs'], data['inputs'], out['data_samples']
    ):
        assert torch.equal(got.t(), cloud[sample.gt_parts])
        lost = sample.gt_parts != torch.arange(50)
        assert sample.gt_parts[lost].eq(0).all()
        shares.append(lost.float().mean())
    shares = torch.stack(shares)
    assert shares.min() < 0.1 and 0.75 < shares.max() < 1
    assert 0.35 < shares.mean() < 0.52


def test_bad_clouds():
    for change, match in (
        (dict(dtype=torch.int64), 'scan.off must be floating .*int64'),
        (dict(size=(50, 2)), r'scan.off must be .* \(50, 2\)'),
        (dict(size=(40, 3)), r'\(40, 3\) and the first of .* \(50, 3\)'),
        (dict(parts=7), r'50 points and gt_parts of shape \(7,\)'),
        (dict(nan=True), 'scan.off holds NaN or inf, first in point 8'),
    ):
        data = batch()
        cloud = torch.zeros(change.get('size', (50, 3)))
        cloud = cloud.to(change.get('dtype', torch.float32))
        if 'nan' in change:
            cloud[8, 1] = float('inf')
        sample = BaseDataElement(metainfo=dict(path='scan.off'))
        if 'parts' in change:
            sample.gt_parts = torch.arange(change['parts'])
        data['inputs'][1], data['data_samples'][1] = cloud, sample
        with pytest.raises(UserError, match=match):
            build()(data)


def test_bad_arguments():
    for scale in (2, (1, 0.5), (0, 1), (1, 2, 3), (1, float('nan'))):
        with pytest.raises(ValueError, match='scale must'):
            build(scale=scale)
    with pytest.raises(ValueError, match='dropout must be'):
        build(dropout=1.0)
    with pytest.raises(ValueError, match='shift must be'):
        build(shift=-0.1)


def test_without_samples():
    out = build(**PUBLISHED)(dict(inputs=batch()['inputs']), True)
    assert out['inputs'].shape == (2, 3, 50) and out['data_samples'] is None
