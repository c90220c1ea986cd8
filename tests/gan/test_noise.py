import pytest
import torch

from mmea.gan import draw_noise, interpolate, to_pixels


def test_noise_is_drawn_by_its_numbers():
    first, second = draw_noise((1, 2, 0), [3, 2], 4, 5)
    assert first[0].shape == (3, 4) and second[1].shape == (2,)
    (again,) = draw_noise((1, 2, 0), [3], 4, 5)
    assert torch.equal(again[0], first[0])
    for other in ((0, 2, 0), (1, 3, 0), (1, 2, 1)):
        (noise, _), *_ = draw_noise(other, [3], 4, 5)
        assert not torch.equal(noise, first[0])
    (noise, labels), *_ = draw_noise((0, 0, 0), [5000], 3, 4)
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    assert labels.bincount().min() > 1100 and labels.max() == 3


def test_interpolate():
    """Two at right angles, as long as each other: a quarter of a circle."""
    start = torch.tensor([2.0, 0.0, 0.0])
    end = torch.tensor([0.0, 0.0, 2.0])
    got = interpolate(start, end, 4)
    angle = torch.tensor([0.0, 30.0, 60.0, 90.0]).deg2rad()
    want = torch.stack([angle.cos(), 0 * angle, angle.sin()], 1) * 2
    torch.testing.assert_close(got, want)
    start, end = torch.randn(2, 500, generator=torch.manual_seed(0))
    norms = interpolate(start, end, 7).norm(dim=1)
    assert norms.min() > 0.97 * min(start.norm(), end.norm())
    # In one line: along it, in the dtype given.
    line = interpolate(end.half(), 2 * end.half(), 3)
    assert line.dtype == torch.float16
    torch.testing.assert_close(line[1], 1.5 * end.half())
    assert torch.equal(interpolate(end, -end, 3)[1], 0 * end)


def test_interpolate_bad_arguments():
    with pytest.raises(ValueError, match='steps must be an int >= 2'):
        interpolate(torch.zeros(3), torch.zeros(3), 1)
    with pytest.raises(ValueError, match=r'got \(3,\) and \(4,\)'):
        interpolate(torch.zeros(3), torch.zeros(4), 2)


def test_to_pixels():
    values = torch.tensor([-1.2, -1.0, 0.0, 0.5, 1.0, 2.0])
    assert to_pixels(values).tolist() == [0, 0, 128, 191, 255, 255]
