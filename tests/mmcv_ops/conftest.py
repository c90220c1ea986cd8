"""mmcv's functions over mmea's ops, and over compiled ones where they are."""

import importlib
import sys
from contextlib import contextmanager

import pytest
import torch

pytest.importorskip('mmcv')

from mmea.mmcv_ops import ext  # noqa: E402


def _compiled():
    found = importlib.import_module('mmcv._ext')
    return None if found.__file__.endswith('.py') else found


@contextmanager
def _calling(name, module):
    target = sys.modules[importlib.import_module(f'mmcv.ops.{name}').__name__]
    before, target.ext_module = target.ext_module, module
    try:
        yield target
    finally:
        target.ext_module = before


@pytest.fixture
def run():
    """Call a function of mmcv.ops: ``run('nms', 'soft_nms', *arguments)``.

    It runs over mmea's ops and, on what they were compiled for, over the
    compiled ones too, outputs and gradients equal; then the result of mmea's
    is given back: outputs, gradients of the floating inputs that require one.
    """

    def call(module, file, function, inputs, options):
        inputs = [
            x.detach().clone().requires_grad_(x.requires_grad)
            if isinstance(x, torch.Tensor)
            else x
            for x in inputs
        ]
        with _calling(file, module) as mmcv_file:
            out = getattr(mmcv_file, function)(*inputs, **options)
            outs = out if isinstance(out, (tuple, list)) else [out]
            wanted = [x for x in inputs if getattr(x, 'requires_grad', False)]
            if not wanted:
                return [*outs]
            # Weights that tell the places of an output apart.
            torch.manual_seed(0)
            loss = sum(
                (o * torch.randn(o.shape).to(o)).sum()
                for o in outs
                if o.requires_grad
            )
            grads = torch.autograd.grad(loss, wanted)
        return [*outs, *grads]

    def both(file, function, *inputs, compiled=True, tolerance=0, **options):
        got = call(ext, file, function, inputs, options)
        other = _compiled()
        if compiled and other:
            want = call(other, file, function, inputs, options)
            assert len(got) == len(want)
            for a, b in zip(got, want):
                torch.testing.assert_close(
                    a, b, rtol=tolerance, atol=tolerance
                )
        return got

    return both


def gradients(outs, inputs):
    """Of the loss that ``run`` takes, for a reference in plain torch."""
    torch.manual_seed(0)
    loss = sum((o * torch.randn(o.shape).to(o)).sum() for o in outs)
    # An output of zeros alone may depend on nothing.
    loss = loss + sum(0 * x.sum() for x in inputs)
    return torch.autograd.grad(loss, inputs)


def random_boxes(generator, number, size=20.0):
    """(N, 4), x1 <= x2 and y1 <= y2; some the same, some without an area."""
    corner = torch.rand(number, 2, generator=generator) * size
    side = torch.rand(number, 2, generator=generator) * size / 2
    boxes = torch.cat([corner, corner + side], 1)
    if number > 4:
        boxes[1] = boxes[0]
        boxes[2, 2:] = boxes[2, :2]
    return boxes
