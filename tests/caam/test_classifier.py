import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import nn

pytest.importorskip('mmcv')

from mmea.registry import MODELS


class ThreeMaps(nn.Module):
    """Causal, spurious and mix: parts of the image."""

    def forward(self, x):
        return x[:, :4], x[:, 4:8], x[:, 8:]


class OneMap(nn.Module):
    def forward(self, x):
        return (x,)


def build(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='mmea.CaaMClassifier',
        backbone=dict(type=ThreeMaps),
        num_classes=3,
        in_channels=4,
        num_envs=5,
        penalty_weight=7.0,
    )
    return MODELS.build({**cfg, **kwargs}).double()


def batch(envs=(0, 3, 3, 1, 3), labels=(2, 0, 1, 1, 0)):
    samples = []
    for env, label in zip(envs, labels):
        sample = BaseDataElement(gt_label=torch.tensor([label]))
        sample.set_metainfo(dict(environment=env))
        samples.append(sample)
    return torch.randn(len(samples), 12, 3, 5).double(), samples


def test_losses():
    model = build()
    x, samples = batch()
    losses = model(x, samples, 'loss')
    feats = x.mean((2, 3))
    # One environment after the other, as in the formula.
    risks = []
    for env, rows, labels in (
        (0, [0], [2]),
        (1, [3], [1]),
        (3, [1, 2, 4], [0, 1, 0]),
    ):
        logits = feats[rows, :4] @ model.env_weights[env].t()
        risks.append(F.cross_entropy(logits, torch.tensor(labels)))
    torch.testing.assert_close(losses['loss_env'], sum(risks) / 3)
    mean = model.env_weights.mean(0)
    gaps = [
        (torch.norm(w - mean, p=2) / torch.norm(w, p=1)) ** 2
        for w in model.env_weights
    ]
    torch.testing.assert_close(losses['loss_invariance'], 7 * sum(gaps) / 5)
    logits = model.mix_fc(feats[:, 8:])
    want = F.cross_entropy(logits, torch.tensor([2, 0, 1, 1, 0]))
    torch.testing.assert_close(losses['loss_mix'], want)
    assert len(losses) == 3


def test_gradients():
    model = build(num_envs=2)
    x, samples = batch((0, 1, 0), (0, 1, 2))
    x.requires_grad_()

    def total(x, *params):
        for name, param in zip(('env_weights',), params):
            delattr(model, name)
            setattr(model, name, param)
        return sum(model(x, samples, 'loss').values())

    weights = model.env_weights.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(total, (x, weights))


def test_gradients_where_they_must_not_go():
    model = build()
    x, samples = batch((0, 3), (0, 1))
    x.requires_grad_()
    losses = model(x, samples, 'loss')
    (grad,) = torch.autograd.grad(losses['loss_env'], x, retain_graph=True)
    assert grad[:, :4].abs().max() > 0 and grad[:, 4:].eq(0).all()
    (grad,) = torch.autograd.grad(losses['loss_mix'], x, retain_graph=True)
    assert grad[:, 8:].abs().max() > 0 and grad[:, :8].eq(0).all()
    sum(losses.values()).backward()
    # Environments out of the batch are still pulled to the others.
    assert all(g.abs().max() > 0 for g in model.env_weights.grad)


def test_classifiers_that_agree():
    model = build()
    with torch.no_grad():
        model.env_weights[:] = model.env_weights[0].clone()
    losses = model(*batch(), 'loss')
    assert losses['loss_invariance'].abs() < 1e-25
    losses['loss_invariance'].backward()
    assert model.env_weights.grad.abs().max() < 1e-12  # and no NaN


def test_prediction_is_of_the_causal_features():
    model = build().eval()
    x, samples = batch()
    logits = x[:, :4].mean((2, 3)) @ model.env_weights.mean(0).t()
    torch.testing.assert_close(model(x), logits)
    for given in (samples, None):
        outs = model(x, given, 'predict')
        for out, row in zip(outs, logits, strict=True):
            torch.testing.assert_close(out.pred_score, row.softmax(0))
            assert out.pred_label.tolist() == [row.argmax()]
    assert outs[0] is not samples[0]
    assert samples[0].gt_label.tolist() == [2]


def test_metric_of_mmpretrain():
    metrics = pytest.importorskip('mmpretrain.evaluation')
    from mmpretrain.structures import DataSample

    model = build().eval()
    x, _ = batch()
    right = model(x).argmax(1)
    labels = right.clone()
    labels[0] = (labels[0] + 1) % 3
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    metric = metrics.Accuracy()
    metric.process({}, [s.to_dict() for s in model(x, samples, 'predict')])
    assert metric.evaluate(5)['accuracy/top1'] == pytest.approx(80)


def test_with_the_network():
    model = build(
        backbone=dict(type='mmea.CaaMResNet', base_channels=2, multi=True),
        in_channels=16,
        data_preprocessor=dict(
            type='ImgDataPreprocessor', mean=[10.0] * 3, std=[3.0] * 3
        ),
    )
    _, samples = batch((0, 1), (0, 1))
    images = [torch.randint(256, (3, 33, 40)) for _ in samples]
    model.float()
    data = model.data_preprocessor(
        dict(inputs=images, data_samples=samples), True
    )
    losses = model(**data, mode='loss')
    sum(losses.values()).backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name
    feats = model.extract_feats(data['inputs'])
    maps = model.backbone(data['inputs'])
    torch.testing.assert_close(feats, tuple(m.mean((2, 3)) for m in maps))


def test_features_without_a_place():
    """Class tokens of a transformer."""
    model = build()
    x = torch.randn(2, 12).double()
    torch.testing.assert_close(model.extract_feats(x)[1], x[:, 4:8])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_classes=0), 'num_classes=0'),
        (dict(num_envs=0), 'num_envs=0'),
        (dict(penalty_weight=-1), 'penalty_weight=-1'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_bad_calls():
    model = build(num_envs=3)
    x, samples = batch((0, 3), (0, 1))
    with pytest.raises(ValueError, match=r'0..2 for num_envs=3, got \[0, 3\]'):
        model(x, samples, 'loss')
    bare = [BaseDataElement(gt_label=s.gt_label) for s in samples]
    with pytest.raises(ValueError, match='CaaMPartitionHook'):
        model(x, bare, 'loss')
    with pytest.raises(ValueError, match="mode='loses'"):
        model(x, samples, 'loses')
    with pytest.raises(ValueError, match='got 1 of OneMap.*multi=True'):
        build(backbone=dict(type=OneMap))(x)
