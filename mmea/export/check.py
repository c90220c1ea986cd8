"""A written graph against PyTorch, at sizes that it was not recorded at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.errors import UserError

from .graph import Graph

__all__ = ['SHAPES', 'check', 'picture']

#: Batch, height and width of the images that a graph is compared on.
SHAPES = ((1, 160, 192), (2, 193, 131), (1, 130, 210))

Run = Callable[[Tensor], list[Tensor]]


def check(
    path: Path,
    graph: Graph,
    model: nn.Module,
    shapes: Sequence[tuple[int, int, int]],
    dtype: torch.dtype,
) -> None:
    """Compare a written graph with the model that it was made from.

    Args:
        path (Path): Ends in ``.onnx``, run by onnxruntime on the CPU, or in
            ``.pt2``.
        graph (Graph): That was written.
        model (nn.Module): The model itself, its attention not folded.
        shapes (Sequence[tuple[int, int, int]]): Batch, height and width of
            the images to compare on.
        dtype (torch.dtype): Of the graph's input.

    Raises:
        UserError: It cannot be run, or differs.
    """
    run = (_onnx if path.suffix == '.onnx' else _program)(path)
    for batch, height, width in shapes:
        batch = batch if graph.batches else 1
        image = picture(batch, graph.channels, height, width)
        at = f'at {height} x {width}, batch {batch},'
        with torch.no_grad():
            want = graph.predict(model, image)
            try:
                got = run(image.to(dtype))
            except Exception as error:
                raise UserError(
                    f'{at} the graph fails: {str(error).splitlines()[0]}'
                ) from error
        if problem := graph.compare(got, want):
            raise UserError(f'{at} it is not what PyTorch computes: {problem}')


def picture(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Draw images (B, C, H, W), uint8: patches of colour, and noise."""
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand(batch, channels, 5, 7, generator=generator)
    image = F.interpolate(coarse, (height, width)) * 200
    image += torch.rand(image.shape, generator=generator) * 55
    return image.byte()


def _onnx(path: Path) -> Run:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = onnx.load(path)
    for constant in model.graph.initializer:
        if constant.name == 'score_thr':
            zero = onnx.numpy_helper.from_array(
                np.zeros((), np.float32), constant.name
            )
            constant.CopyFrom(zero)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ['CPUExecutionProvider']
    )

    def run(image: Tensor) -> list[Tensor]:
        found = session.run(None, dict(image=image.numpy()))
        return [torch.from_numpy(x) for x in found]

    return run


def _program(path: Path) -> Run:
    module: Any = torch.export.load(path).module()
    buffers = dict(module.named_buffers())
    if 'score_thr' in buffers:
        buffers['score_thr'].zero_()
    return lambda image: list(module(image))
