import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmea.models import SimpleFeaturePyramid

NORM = dict(type='GN', num_groups=2)


def make(**kwargs):
    torch.manual_seed(0)
    return SimpleFeaturePyramid(
        **(dict(in_channels=8, out_channels=6, norm_cfg=NORM) | kwargs)
    )


def x(height=5, width=7, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 8, height, width, generator=generator)


@pytest.mark.parametrize('size', [(5, 7), (1, 1), (4, 6)])
def test_a_level_for_each_stride(size):
    strides = (4, 8, 16, 32, 64, 128)
    outs = make(strides=strides)([x(*size)])
    assert isinstance(outs, tuple)
    for out, stride in zip(outs, strides, strict=True):
        want = [-(-n * 16 // stride) for n in size]
        assert list(out.shape) == [2, 6, *want]


def test_published_form():
    """Each level by hand."""
    neck = make(strides=(4, 8, 16, 32, 64)).double()
    for param in neck.parameters():
        nn.init.normal_(param)
    inp = x().double()
    up = neck.levels[0][0], neck.levels[0][3], neck.levels[1][0]
    assert all(isinstance(layer, nn.ConvTranspose2d) for layer in up)

    def twice(layer, y):
        return F.conv_transpose2d(y, layer.weight, layer.bias, stride=2)

    norm = neck.levels[0][1]
    wide = F.gelu(F.group_norm(twice(up[0], inp), 2, norm.weight, norm.bias))
    scaled = [
        twice(up[1], wide),
        twice(up[2], inp),
        inp,
        F.max_pool2d(F.pad(inp, (0, 1, 0, 1), value=-1e9), 2),
        F.max_pool2d(F.pad(inp, (0, 1, 0, 3), value=-1e9), 4),
    ]
    for level, y, out in zip(neck.levels, scaled, neck([inp]), strict=True):
        for module, padding in zip(level[-2:], (0, 1)):
            assert module.conv.bias is None
            y = F.conv2d(y, module.conv.weight, padding=padding)
            y = F.group_norm(y, 2, module.norm.weight, module.norm.bias)
        torch.testing.assert_close(out, y)


def test_every_parameter_gets_a_gradient():
    neck = make()
    outs = neck([x()])
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for name, param in neck.named_parameters():
        assert param.grad.abs().max() > 0, name


def test_default_norm_fits_the_published_widths():
    for width in (256, 384, 448):
        SimpleFeaturePyramid(width)


def test_bf16_autocast_and_batch_of_one():
    neck = make()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outs = neck([x(batch=1)])
    for out, want in zip(outs, neck([x(batch=1)])):
        assert (out - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize('package', ['mmseg', 'mmdet'])
def test_in_either_package(package):
    registry = pytest.importorskip(f'{package}.registry').MODELS
    pytest.importorskip(f'{package}.models')
    neck = registry.build(
        dict(
            type='mmea.SimpleFeaturePyramid',
            in_channels=8,
            norm_cfg=dict(type='BN'),
        )
    )
    neck.init_weights()
    assert len(neck([x()])) == 4


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        (dict(in_channels=10), 'multiple of 4, got in_channels=10'),
        (dict(strides=(4, 12)), r'4, 8, 16, 32.*got strides=\(4, 12\)'),
        (dict(strides=()), r'got strides=\(\)'),
    ],
)
def test_bad_arguments(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)


def test_wrong_number_of_maps():
    with pytest.raises(ValueError, match='one map of stride 16, got 2'):
        make()([x(), x()])
