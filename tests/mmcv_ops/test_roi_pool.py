import math

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import gradients, random_boxes


def plain(x, rois, size, scale):
    _, c, h, w = x.shape
    out = []
    for image, x1, y1, x2, y2 in rois.tolist():
        x1, y1, x2, y2 = (scale * v for v in (x1, y1, x2 + 1, y2 + 1))
        step_y, step_x = (y2 - y1) / size[0], (x2 - x1) / size[1]
        for i in range(size[0]):
            for j in range(size[1]):
                top = max(math.floor(y1 + i * step_y), 0)
                left = max(math.floor(x1 + j * step_x), 0)
                cell = x[
                    int(image),
                    :,
                    top : max(math.ceil(y1 + (i + 1) * step_y), 0),
                    left : max(math.ceil(x1 + (j + 1) * step_x), 0),
                ].flatten(1)
                some = cell.shape[1] and x2 > x1 and y2 > y1
                out.append(cell.amax(1) if some else x.new_zeros(c))
    out = torch.stack(out) if out else x.new_zeros(0, c)
    return out.view(len(rois), *size, c).permute(0, 3, 1, 2)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_equals_the_definition(run, seed, number):
    """Coordinates are quarters of a pixel: no rounding decides a border."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 6, 8, generator=generator, requires_grad=True)
    boxes = random_boxes(generator, number, size=40).round() - 6
    if number > 3:
        boxes[3, 2:] = boxes[3, :2] - 3  # turned over
    image = torch.randint(0, 2, (number, 1), generator=generator)
    rois = torch.cat([image, boxes], 1)
    arguments = ((4, 2), 0.25)
    # Compiled, it is there on a GPU only.
    got = run('roi_pool', 'roi_pool', x, rois, *arguments, compiled=False)
    want = plain(x, rois, *arguments)
    assert torch.equal(got[0], want)
    if number:
        torch.testing.assert_close(got[1], gradients([want], [x])[0])
