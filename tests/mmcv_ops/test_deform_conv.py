import pytest
import torch
import torch.nn.functional as F

from .conftest import gradients

# stride, padding, dilation, groups, deform_groups
GEOMETRIES = [
    (1, 1, 1, 1, 1),
    ((2, 1), (0, 1), 1, 2, 1),
    (1, 2, 2, 1, 2),
    (2, 1, (1, 2), 2, 2),
]


def plain(x, offset, mask, weight, bias, stride, padding, dilation, g, dg):
    """Sample every tap by grid_sample, then multiply."""
    pairs = [
        v if isinstance(v, tuple) else (v, v)
        for v in (stride, padding, dilation)
    ]
    (sy, sx), (py, px), (dy, dx) = pairs
    b, c, h, w = x.shape
    c_out, _, kh, kw = weight.shape
    ho, wo = offset.shape[2:]
    offset = offset.view(b, dg, kh * kw, 2, ho, wo)
    mask = mask.view(b, dg, kh * kw, 1, ho, wo)
    columns = []
    for tap in range(kh * kw):
        y = torch.arange(ho).to(x)[:, None] * sy - py + tap // kw * dy
        z = torch.arange(wo).to(x) * sx - px + tap % kw * dx
        y, z = y + offset[:, :, tap, 0], z + offset[:, :, tap, 1]
        # To grid_sample -1 and 1 are the outer edges of the map.
        grid = torch.stack([(2 * z + 1) / w - 1, (2 * y + 1) / h - 1], -1)
        values = F.grid_sample(
            x.reshape(b * dg, c // dg, h, w),
            grid.view(b * dg, ho, wo, 2),
            align_corners=False,
        )
        columns.append(values.view(b, dg, c // dg, ho, wo) * mask[:, :, tap])
    columns = torch.stack(columns, 3).view(b, g, c // g, kh * kw, ho, wo)
    weight = weight.view(g, c_out // g, c // g, kh * kw)
    out = torch.einsum('bgcthw,goct->bgohw', columns, weight)
    return out.reshape(b, c_out, ho, wo) + bias.view(-1, 1, 1)


def inputs(geometry, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.to(dtype).requires_grad_()

    stride, padding, dilation, groups, deform_groups = geometry
    x, weight = random(3, 4, 7, 6), random(6, 4 // groups, 3, 2)
    size = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape
    offset = random(3, 2 * 6 * deform_groups, *size[2:])
    mask = random(3, 6 * deform_groups, *size[2:])
    return x, offset, mask, weight, random(6)


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_version_1(run, geometry):
    x, offset, mask, weight, bias = inputs(geometry)
    got = run(
        'deform_conv', 'deform_conv2d', x, offset, weight, *geometry,
        tolerance=1e-12,
    )  # fmt: skip
    want = plain(
        x,
        offset,
        torch.ones_like(mask),
        weight,
        torch.zeros(6).to(x),
        *geometry,
    )
    torch.testing.assert_close(got[0], want)
    for a, b in zip(got[1:], gradients([want], [x, offset, weight])):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('with_bias', [True, False])
def test_version_2(run, geometry, with_bias):
    *tensors, bias = inputs(geometry)
    got = run(
        'modulated_deform_conv',
        'modulated_deform_conv2d',
        *tensors,
        bias if with_bias else None,
        *geometry,
        tolerance=1e-12,
    )
    zero = torch.zeros_like(bias)
    want = plain(*tensors, bias if with_bias else zero, *geometry)
    torch.testing.assert_close(got[0], want)
    wanted = [*tensors, bias] if with_bias else tensors
    for a, b in zip(got[1:], gradients([want], wanted)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(run, dtype):
    geometry = GEOMETRIES[0]
    tensors = inputs(geometry, dtype)
    name = 'modulated_deform_conv', 'modulated_deform_conv2d'
    got = run(*name, *tensors, *geometry, compiled=False)
    wide = [t.detach().double().requires_grad_() for t in tensors]
    want = plain(*wide, *geometry)
    eps = torch.finfo(dtype).eps
    for a, b in zip(got, [want, *gradients([want], wide)]):
        assert a.dtype == dtype
        # The weights of the loss are rounded as well.
        scale = b.abs().max().item()
        torch.testing.assert_close(a.double(), b, rtol=0, atol=4 * eps * scale)
