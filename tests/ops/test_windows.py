import pytest
import torch

from mmea.ops import from_blocks, to_windows


@pytest.mark.parametrize('size', [(1, 1), (4, 6), (5, 7)])
@pytest.mark.parametrize('block', [1, 2, 3])
@pytest.mark.parametrize('halo', [0, 1, 4])
def test_windows(size, block, halo):
    height, width = size
    x = torch.randn(2, 3, 4, height, width)
    windows = to_windows(x, block, halo)
    side = block + 2 * halo
    assert windows.shape == (
        *(2, 3, -(-height // block), -(-width // block), 4, side, side),
    )
    for i in range(windows.shape[2]):
        for j in range(windows.shape[3]):
            want = torch.zeros(2, 3, 4, side, side)
            for a in range(side):
                for c in range(side):
                    row, column = i * block + a - halo, j * block + c - halo
                    if 0 <= row < height and 0 <= column < width:
                        want[..., a, c] = x[..., row, column]
            assert torch.equal(windows[:, :, i, j], want)
    assert torch.equal(from_blocks(to_windows(x, block), height, width), x)
