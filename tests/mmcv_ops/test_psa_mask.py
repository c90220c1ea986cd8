import pytest
import torch

from .conftest import gradients


def plain(x, kind, size):
    b, _, h, w = x.shape
    out = [[torch.zeros(b).to(x)] * (h * w) for _ in range(h * w)]
    for y in range(h):
        for z in range(w):
            for i in range(size[0]):
                for j in range(size[1]):
                    v, u = (
                        y + i - (size[0] - 1) // 2,
                        z + j - (size[1] - 1) // 2,
                    )
                    if 0 <= v < h and 0 <= u < w:
                        pair = [y * w + z, v * w + u]
                        if kind == 'collect':
                            pair.reverse()
                        value = x[:, i * size[1] + j, y, z]
                        out[pair[0]][pair[1]] = value
    out = torch.stack([torch.stack(row, -1) for row in out], 1)
    return out.view(b, h * w, h, w)


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
@pytest.mark.parametrize('size', [(7, 5), (3, 3), (5, 9)])
def test_equals_the_definition(run, kind, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, size[0] * size[1], 4, 3, generator=generator)
    x = x.double().requires_grad_()
    number = ['collect', 'distribute'].index(kind)
    got = run('psa_mask', 'psa_mask', x, number, size)
    want = plain(x, kind, size)
    assert torch.equal(got[0], want)
    torch.testing.assert_close(got[1], gradients([want], [x])[0])
