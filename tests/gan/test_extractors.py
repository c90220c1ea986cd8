import builtins
import sys
from types import ModuleType

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset
from torchvision.models import mobilenet_v2

from mmea.errors import UserError
from mmea.gan import (
    FidelityExtractor,
    MobileNetV2Extractor,
    TrainedHereExtractor,
)
from mmea.gan.extractors import build_extractor, name_of


def test_mobilenet_v2(tmp_path):
    """Against torchvision's own, in its own preprocessing."""
    torch.manual_seed(0)
    net = mobilenet_v2(weights=None).eval()
    path = tmp_path / 'weights.pth'
    torch.save(net.state_dict(), path)
    images = torch.randint(256, (2, 3, 32, 32)).byte()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = (images / 255 - mean) / std
    with torch.no_grad():
        for out, want in (
            ('features', net.features(x).mean((2, 3))),
            ('probabilities', net(x).softmax(1).double()),
        ):
            extractor = build_extractor(
                MobileNetV2Extractor(str(path), out, size=32)
            )
            torch.testing.assert_close(extractor(images), want)
    assert name_of(extractor) == 'mobilenet_v2'
    # Of another size: what a constant image is does not depend on it.
    grey = torch.full((1, 3, 16, 24), 99).byte()
    same = torch.full((1, 3, 32, 32), 99).byte()
    torch.testing.assert_close(extractor(grey), extractor(same))


def test_mobilenet_v2_of_a_bad_file(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(nn.Linear(2, 3).state_dict(), path)
    for name in (path, tmp_path / 'none.pth'):
        with pytest.raises(UserError, match=f'cannot use weights={name}'):
            MobileNetV2Extractor(str(name))
    with pytest.raises(ValueError, match='out must be'):
        MobileNetV2Extractor(str(path), out='logits')


class Stripes(Dataset):
    """Stripes along or across."""

    metainfo = dict(classes=('along', 'across'))

    def __len__(self):
        return 20

    def __getitem__(self, i):
        image = torch.randint(90, (3, 16, 16)).byte()  # by torch's numbers
        if i % 2:
            image[:, ::4] += 150
        else:
            image[..., ::4] += 150
        sample = BaseDataElement(gt_label=torch.tensor([i % 2]))
        return dict(inputs=image, data_samples=sample)


def test_trained_here():
    images = torch.stack([Stripes()[i]['inputs'] for i in range(20)])
    state = torch.random.get_rng_state()
    args = dict(max_iters=30, batch_size=8)
    with torch.no_grad():  # as in a metric
        seen, again, other = (
            build_extractor(
                TrainedHereExtractor(
                    Stripes(), 'probabilities', seed=seed, **args
                )
            )(images)
            for seed in (0, 0, 1)
        )
        features = TrainedHereExtractor(Stripes(), **args)(images)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (seen.argmax(1) == torch.arange(20) % 2).all()
    assert torch.equal(seen, again) and not torch.equal(seen, other)
    assert seen.dtype == torch.float64 and features.shape == (20, 64)
    assert name_of(TrainedHereExtractor(Stripes())) == 'trained_here'
    with pytest.raises(ValueError, match='max_iters must be'):
        TrainedHereExtractor(Stripes(), max_iters=0)


def test_fidelity(monkeypatch):
    """Its network is not here; what is made of it is."""

    class Net(nn.Module):
        def __init__(self, name, features_list):
            super().__init__()
            assert features_list == ['2048', 'logits_unbiased']

        def forward(self, images):
            means = images.float().mean((2, 3))
            return means, means / 50

    name = 'torch_fidelity.feature_extractor_inceptionv3'
    module = ModuleType(name)
    module.FeatureExtractorInceptionV3 = Net
    monkeypatch.setitem(sys.modules, 'torch_fidelity', ModuleType('x'))
    monkeypatch.setitem(sys.modules, name, module)
    images = torch.randint(256, (2, 3, 4, 4)).byte()
    means = images.float().mean((2, 3))
    assert torch.equal(FidelityExtractor()(images), means)
    got = FidelityExtractor('probabilities')(images)
    torch.testing.assert_close(got, (means / 50).double().softmax(1))


def test_fidelity_is_missing(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith('torch_fidelity'):
            raise ImportError(f'No module named {name!r}')
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(UserError, match='torch-fidelity.*extra "fid"'):
        FidelityExtractor()
