import pytest
import torch
from mmengine.model import Sequential
from mmengine.registry import init_default_scope
from torch import nn

from mmea.models import EANeck, ExternalAttention2d

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=3)


def maps(channels=(4, 4, 4)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, 9 - 2 * i, 7 - i, generator=generator)
        for i, c in enumerate(channels)
    ]


def randomise(neck):
    for param in neck.parameters():
        nn.init.normal_(param)
    return neck


@pytest.mark.parametrize('share', [False, True])
def test_identity_at_the_start(share):
    neck = EANeck([4, 4, 4], share=share, attention=ATTENTION)
    neck.init_weights()
    outs = neck(maps())
    assert isinstance(outs, tuple)
    assert all(torch.equal(a, b) for a, b in zip(outs, maps(), strict=True))


def test_refines_the_named_levels_only():
    neck = randomise(EANeck([4, 5, 6], levels=[0, -1], attention=ATTENTION))
    xs = maps((4, 5, 6))
    outs = neck(xs)
    assert outs[1] is xs[1]
    torch.testing.assert_close(outs[0], neck.attentions[0](xs[0]))
    torch.testing.assert_close(outs[2], neck.attentions[1](xs[2]))
    assert not torch.equal(outs[2], xs[2])


def test_one_memory_or_one_per_level():
    shared = randomise(EANeck([4] * 3, share=True, attention=ATTENTION))
    assert len(shared.attentions) == 1
    for out, x in zip(shared(maps()), maps()):
        torch.testing.assert_close(out, shared.attentions[0](x))
    own = EANeck([4] * 3, attention=ATTENTION)
    assert len({m.key_memory.data_ptr() for m in own.attentions}) == 3


@pytest.mark.parametrize('share', [False, True])
@pytest.mark.parametrize('levels', [None, [1]])
def test_every_parameter_gets_a_gradient(share, levels):
    neck = randomise(
        EANeck([4] * 3, levels=levels, share=share, attention=ATTENTION)
    )
    sum((out * torch.randn_like(out)).sum() for out in neck(maps())).backward()
    assert all(
        p.grad.abs().max() > 0
        for name, p in neck.named_parameters()
        if 'in_proj.bias' not in name
    )


def test_state_dict_round_trip():
    neck = randomise(EANeck([4] * 3, attention=ATTENTION))
    other = EANeck([4] * 3, attention=ATTENTION)
    other.load_state_dict(neck.state_dict())
    for a, b in zip(other(maps()), neck(maps())):
        torch.testing.assert_close(a, b)


def test_bf16_autocast_and_batch_of_one():
    neck = randomise(EANeck([4] * 3, attention=ATTENTION))
    xs = [x[:1] for x in maps()]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = neck(xs)
    for out, want in zip(outs, neck(xs)):
        assert (out - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize('package', ['mmseg', 'mmdet'])
def test_in_a_list_of_necks(package):
    models = pytest.importorskip(f'{package}.models')
    registry = pytest.importorskip(f'{package}.registry').MODELS
    assert models.ResNet  # registers FPN too
    init_default_scope(package)
    neck = registry.build(
        [
            dict(type='FPN', in_channels=[4, 8], out_channels=4, num_outs=3),
            dict(type='mmea.EANeck', in_channels=[4] * 3, attention=ATTENTION),
        ]
    )
    assert isinstance(neck, Sequential)
    neck.init_weights()
    xs = [torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    for out, want in zip(neck(xs), neck[0](xs), strict=True):
        assert torch.equal(out, want)
    assert isinstance(neck[1].attentions[0], ExternalAttention2d)


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(in_channels=256), 'in_channels=256'),
        (dict(in_channels=[]), r'in_channels=\[\]'),
        (dict(in_channels=[4, 4], levels=[2]), r'levels=\[2\].*2 levels'),
        (
            dict(in_channels=[4, 4], levels=[0, -2]),
            r'each once, got .*\[0, -2\]',
        ),
        (dict(in_channels=[4, 4], levels=[]), r'levels=\[\]'),
        (dict(in_channels=[4, 8], share=True), r'one width, got \[4, 8\]'),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        EANeck(**kwargs)


def test_wrong_number_of_maps():
    with pytest.raises(ValueError, match='3 levels, got 2 feature maps'):
        EANeck([4] * 3, attention=ATTENTION)(maps()[:2])
