import pytest
import torch

from mmea.mmcv_ops import ext

from .conftest import gradients


def plain(value, shapes, locations, weights):
    """A loop over everything; (B, Q, heads * D)."""
    b, _, heads, d = value.shape
    out = []
    for n in range(b):
        for q in range(locations.shape[1]):
            for m in range(heads):
                total, start = torch.zeros(d).to(value), 0
                for level, (h, w) in enumerate(shapes):
                    plane = value[n, start : start + h * w, m].view(h, w, d)
                    start += h * w
                    for p in range(locations.shape[4]):
                        at = locations[n, q, m, level, p]
                        x, y = at[0] * w - 0.5, at[1] * h - 0.5
                        for row in (int(y.floor()), int(y.floor()) + 1):
                            for col in (int(x.floor()), int(x.floor()) + 1):
                                if 0 <= row < h and 0 <= col < w:
                                    near = (1 - (y - row).abs()) * (
                                        1 - (x - col).abs()
                                    )
                                    total = total + (
                                        weights[n, q, m, level, p]
                                        * near
                                        * plane[row, col]
                                    )
                out.append(total)
    return torch.stack(out).view(b, -1, heads * d)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 1e-10), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)],
)
def test_equals_the_definition(dtype, tolerance):
    shapes = [(4, 3), (2, 2)]
    # None of these lies on a pixel's centre, where the slope jumps.
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        x = torch.rand(shape, generator=generator, dtype=torch.float64)
        return x.to(dtype)

    inputs = [
        random(2, 16, 2, 3),
        random(2, 5, 2, 2, 2, 2) * 1.4 - 0.2,
        random(2, 5, 2, 2, 2),
    ]
    value, locations, weights = inputs
    levels = (torch.tensor(shapes), torch.tensor([0, 12]))
    out = ext.ms_deform_attn_forward(value, *levels, locations, weights, 64)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    want = plain(wide[0], shapes, *wide[1:])
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), want, rtol=0, atol=tolerance)

    torch.manual_seed(0)
    grads = [torch.zeros_like(t) for t in inputs]
    ext.ms_deform_attn_backward(
        value, *levels, locations, weights,
        torch.randn(want.shape).to(dtype), *grads, 64,
    )  # fmt: skip
    for a, b in zip(grads, gradients([want], wide)):
        scale = b.abs().max().item()
        torch.testing.assert_close(
            a.double(), b, rtol=0, atol=tolerance * scale
        )
