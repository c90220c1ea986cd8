"""SAGANGenerator and SAGANDiscriminator beside the recorded numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmea.convert import convert
from mmea.gan import SAGANDiscriminator, SAGANGenerator
from mmea.gan.blocks import DiscriminatorBlock
from mmea.layers import SAGANAttention2d, SAGANExternalAttention2d
from mmea.registry import MODELS

SAGAN = dict(type='mmea.SAGANAttention2d')
EAGAN = dict(type='mmea.SAGANExternalAttention2d', num_slots=5)


def generator(**kwargs):
    torch.manual_seed(0)
    cfg = dict(num_classes=3, noise_channels=5, base_channels=2)
    return MODELS.build(dict(type='mmea.SAGANGenerator', **cfg | kwargs))


def discriminator(**kwargs):
    torch.manual_seed(0)
    cfg = dict(num_classes=3, base_channels=4)
    return MODELS.build(dict(type='mmea.SAGANDiscriminator', **cfg | kwargs))


@pytest.mark.parametrize(
    ('size', 'classes', 'numbers', 'widths'),
    [
        (32, 10, (4_386_308, 1_075_586), (256, 128)),
        (64, 200, (13_387_396, 19_752_642), (128, 64)),
        (128, 1000, (42_017_412, 39_448_258), (128, 64)),
    ],
)
def test_published_sizes_and_places(size, classes, numbers, widths):
    args = dict(num_classes=classes, attention=SAGAN)
    with torch.device('meta'):
        nets = SAGANGenerator(size, **args), SAGANDiscriminator(size, **args)
    for net, number, width in zip(nets, numbers, widths, strict=True):
        assert sum(p.numel() for p in net.parameters()) == number
        (layer,) = (b for b in net.blocks if isinstance(b, SAGANAttention2d))
        assert layer.in_channels == width


@pytest.mark.parametrize(
    ('size', 'attention', 'spectral_norm'),
    [
        (32, None, False),
        (32, None, True),
        (32, SAGAN, False),
        (32, EAGAN, True),
        (64, SAGAN, True),
        (64, EAGAN, False),
        (128, EAGAN, True),
    ],
)
def test_image_and_score(size, attention, spectral_norm):
    """Of a batch of one and of two, which do not meet in eval mode."""
    args = dict(
        img_size=size, attention=attention, spectral_norm=spectral_norm
    )
    make, judge = generator(**args).eval(), discriminator(**args).eval()
    noise, labels = torch.randn(2, 5), torch.tensor([2, 0])
    images = make(noise, labels)
    assert images.shape == (2, 3, size, size) and images.abs().max() <= 1
    scores = judge(images, labels)
    assert scores.shape == (2,)
    one = make(noise[1:], labels[1:])
    torch.testing.assert_close(one, images[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        judge(one, labels[1:]), scores[1:], rtol=1e-4, atol=1e-4
    )
    # Class and noise are both seen.
    assert not torch.equal(make(noise, labels.flip(0)), images)
    assert not torch.equal(make(noise.flip(0), labels), images)
    assert not torch.equal(judge(images, labels.flip(0)), scores)
    if spectral_norm:
        norms = [
            torch.linalg.matrix_norm(part.weight.flatten(1), 2)
            for part in (*make.modules(), *judge.modules())
            if isinstance(part, (nn.Conv2d, nn.Linear, nn.Embedding))
        ]
        assert max(norms) < 1.1 and min(norms) > 0.9


def test_attention_of_another_kind_by_one_line():
    """It has no gate: its matrices do not start at zero then."""
    for kind in ('NonLocal2d', 'ExternalAttention2d', 'SelfAttention2d'):
        attention = dict(type=f'mmea.{kind}')
        net = discriminator(attention=attention)
        assert type(net.blocks[1]).__name__.endswith(kind)
        net(torch.randn(2, 3, 32, 32), torch.tensor([0, 1])).sum().backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())
        start = generator(attention=attention, spectral_norm=False).blocks[2]
        x = torch.randn(1, 8, 4, 4)
        assert torch.equal(start(x), x)


def test_starts_without_attention():
    """As the same network without, up to the drawing of its weights."""
    for attention in (SAGAN, EAGAN):
        net = discriminator(attention=attention)
        x, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
        want = net.eval()(x, labels)
        net.blocks[1] = nn.Identity()
        assert torch.equal(net(x, labels), want)


def test_attention_after_another_block():
    net = generator(attention=EAGAN, attention_after=3)
    assert isinstance(net.blocks[3], SAGANExternalAttention2d)
    net = discriminator(attention=EAGAN, attention_after=4)
    assert isinstance(net.blocks[4], SAGANExternalAttention2d)


def test_the_shortcut_sees_relu():
    """As the published activation, which works in place, has it."""
    block = DiscriminatorBlock(2, 2, downsample=False)
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(block(x), F.relu(x))
    block = DiscriminatorBlock(2, 2, downsample=False, norm=True).eval()
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    assert torch.equal(block(x), x)


def test_no_classes():
    make, judge = generator(num_classes=0), discriminator(num_classes=0)
    judge(make(torch.randn(2, 5))).sum().backward()
    assert not hasattr(judge, 'embedding')


def test_embeddings_of_an_earlier_release_convert():
    """They are the transposed matrices of gain and bias."""
    make = generator().double().eval()
    old = {}
    for name, value in make.blocks[0].state_dict().items():
        name = name.replace('parametrizations.weight.original', 'weight_orig')
        for vector in 'uv':
            name = name.replace(
                f'parametrizations.weight.0.{vector}', f'weight_{vector}'
            )
        name = name.replace('norm', 'bn').replace('shortcut', 'conv2d0')
        name = name.replace('conv1', 'conv2d1').replace('conv2.', 'conv2d2.')
        for i, kind in enumerate(('gain', 'bias')):
            if f'.{kind}.' in name:
                name = name.replace(f'.{kind}.', f'.embed{i}.')
                if name.endswith('orig'):
                    value = value.t()
                else:
                    name = name[:-1] + dict(u='v', v='u')[name[-1]]
        old[name] = value
    new = convert(old, 'sagan_generator_block')
    want = make.blocks[0].state_dict()
    assert new.keys() == want.keys()
    for name, value in new.items():
        assert torch.equal(value, want[name]), name


@pytest.mark.parametrize('build', [generator, discriminator])
@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(img_size=48), 'img_size.*32, 64, 128.*48'),
        (dict(base_channels=0), 'base_channels.*0'),
        (dict(num_classes=-1), 'num_classes.*-1'),
        (dict(spectral_norm='no'), "spectral_norm='no'"),
        (dict(attention=EAGAN, attention_after=9), 'attention_after.*9'),
        (
            dict(attention=dict(type='mmea.NonLocal2d', with_cp=True)),
            'attention.with_cp=True',
        ),
    ],
)
def test_bad_arguments(build, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_bad_inputs():
    make, judge = generator(), discriminator()
    images = torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r'noise must be \(B, 5\).*\(2, 4\)'):
        make(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r'3, 32, 32\), got .*24.*img_size'):
        judge(torch.zeros(2, 3, 24, 32), torch.tensor([0, 1]))
    for labels, message in (
        (torch.tensor([0, 3]), r'labels must be in 0..2 .*got 3'),
        (torch.tensor([-1, 0]), r'labels must be in 0..2 .*got -1'),
        (torch.tensor([1]), r'labels must be \(2,\), .*got \(1,\)'),
        (None, r'labels must be \(2,\), .*got None'),
    ):
        with pytest.raises(ValueError, match=message):
            make(torch.zeros(2, 5), labels)
        with pytest.raises(ValueError, match=message):
            judge(images, labels)
