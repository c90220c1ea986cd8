import pytest
import torch

pytest.importorskip('mmpretrain.models')

from mmengine.registry import DefaultScope

from mmea.registry import MODELS


def make(**kwargs):
    torch.manual_seed(0)
    cfg = dict(type='mmea.VOLOHead', num_classes=5, in_channels=6, **kwargs)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg)


@pytest.mark.parametrize('weight', [0.5, 0, 2.0])
def test_scores(weight):
    head = make(aux_weight=weight)
    tokens = torch.randn(2, 1 + 7, 6)
    want = head.fc(tokens[:, 0])
    for image, score in zip(tokens, want):
        best = torch.stack([head.aux_fc(t) for t in image[1:]]).amax(0)
        score.data += weight * best
    torch.testing.assert_close(head((tokens,)), want)
    assert make().aux_weight == 0.5


def test_trains_both_parts():
    from mmpretrain.structures import DataSample

    head = make(
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    )
    head.init_weights()
    for layer in (head.fc, head.aux_fc):
        assert 0.01 < layer.weight.std() < 0.03
    samples = [DataSample().set_gt_label(i) for i in (0, 4)]
    tokens = (torch.randn(2, 4, 6),)
    head.loss(tokens, samples)['loss'].backward()
    for param in head.parameters():
        assert param.grad.abs().max() > 0
    scores = [sample.pred_score for sample in head.predict(tokens)]
    want = head(tokens).softmax(1)
    torch.testing.assert_close(torch.stack(scores), want)


def test_errors():
    with pytest.raises(ValueError, match="tokens.*out_type='raw'"):
        make()((torch.randn(2, 6),))
    with pytest.raises(ValueError, match='aux_weight=-1'):
        make(aux_weight=-1)
    with pytest.raises(ValueError, match="base='Swan' is no registered"):
        make(base='Swan')
