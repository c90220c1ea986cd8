import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import gradients, random_boxes


def sample(x, at_y, at_x):
    """(C,): bilinear, zero a pixel or more outside, by hand."""
    _, h, w = x.shape
    if not (-1 <= at_y <= h and -1 <= at_x <= w):
        return x.new_zeros(len(x))
    at_y, at_x = min(max(at_y, 0), h - 1), min(max(at_x, 0), w - 1)
    y, z = math.floor(at_y), math.floor(at_x)
    v, u = at_y - y, at_x - z
    y1, z1 = min(y + 1, h - 1), min(z + 1, w - 1)
    top = (1 - u) * x[:, y, z] + u * x[:, y, z1]
    return (1 - v) * top + v * ((1 - u) * x[:, y1, z] + u * x[:, y1, z1])


def plain(x, rois, size, scale, ratio, mode, aligned):
    shift = 0.5 if aligned else 0
    out = []
    for image, *box in rois.tolist():
        x1, y1, x2, y2 = (scale * v - shift for v in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        step_y, step_x = height / size[0], width / size[1]
        ny, nx = ratio or math.ceil(step_y), ratio or math.ceil(step_x)
        for i in range(size[0]):
            for j in range(size[1]):
                values = [
                    sample(
                        x[int(image)],
                        y1 + (i + (k + 0.5) / ny) * step_y,
                        x1 + (j + (m + 0.5) / nx) * step_x,
                    )
                    for k in range(ny)
                    for m in range(nx)
                ]
                if mode == 'max':
                    none = -10000 * torch.ones(1, x.shape[1]).to(x)
                    out.append(torch.stack([*none, *values]).amax(0))
                else:
                    none = [x.new_zeros(x.shape[1])]
                    out.append(sum(values or none) / max(len(values), 1))
    out = torch.stack(out) if out else x.new_zeros(0, x.shape[1])
    return out.view(len(rois), *size, x.shape[1]).permute(0, 3, 1, 2)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.integers(0, 10**6),
    st.integers(0, 7),
    st.sampled_from([0, 2]),
    st.sampled_from(['avg', 'max']),
    st.booleans(),
)
def test_equals_the_definition(run, seed, number, ratio, mode, aligned):
    """Regions inside, across the border, beyond it and without an area."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 5 + seed % 4, 7)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    rois = torch.cat(
        [
            torch.randint(0, 2, (number, 1), generator=generator),
            random_boxes(generator, number, size=40) - 6,
        ],
        1,
    ).double()
    arguments = ((3, 2), 0.25, ratio, mode, aligned)
    got = run('roi_align', 'roi_align', x, rois, *arguments, tolerance=1e-12)
    want = plain(x, rois, *arguments)
    torch.testing.assert_close(got[0], want)
    if number:
        torch.testing.assert_close(got[1], gradients([want], [x])[0])


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(run, mode, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 9, 9, generator=generator).to(dtype)
    rois = torch.cat([torch.zeros(5, 1), random_boxes(generator, 5)], 1)
    rois = rois.to(dtype)
    arguments = ((3, 3), 0.5, 2, mode, True)
    got, got_grad = run(
        'roi_align', 'roi_align', x.requires_grad_(), rois, *arguments,
        compiled=False,
    )  # fmt: skip
    wide = x.detach().float().requires_grad_()
    want, want_grad = run(
        'roi_align',
        'roi_align',
        wide,
        rois.float(),
        *arguments,
        tolerance=1e-6,
    )
    assert got.dtype == got_grad.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.float(), want, rtol=eps, atol=eps)
    torch.testing.assert_close(
        got_grad.float(), want_grad, rtol=0.02, atol=8 * eps
    )
