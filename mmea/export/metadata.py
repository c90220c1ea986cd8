"""What a file says of itself, beside the graph."""

import json
from typing import Any

import torch
from torch import nn

import mmea

from .graph import Graph

__all__ = ['describe']


def describe(
    graph: Graph,
    model: nn.Module,
    meta: dict,
    program: torch.export.ExportedProgram,
) -> dict[str, str]:
    """Describe a graph for who runs it without its config.

    Args:
        graph (Graph): Of the model.
        model (nn.Module): Of the stack.
        meta (dict): ``classes`` and, of some, ``palette``.
        program (ExportedProgram): Of the graph.

    Returns:
        dict[str, str]: ``mmea``, its version; ``task``; ``model``;
        ``channels``, their order; ``height`` and ``width``, the smallest and
        the largest of the images as a list of JSON, null for no limit;
        ``size_divisor``, to which the graph pads by itself; ``classes`` and
        ``palette``, lists of JSON, where there are any.
    """
    found = dict(
        mmea=mmea.__version__,
        task=graph.task,
        model=type(model).__name__,
        channels='RGB' if graph.channels == 3 else 'as the config has them',
        size_divisor=str(graph.images.divisor),
    )
    (image,) = (
        node.meta['val']
        for node in program.graph.nodes
        if node.op == 'placeholder' and node.name == 'image'
    )
    for name, side in zip(('height', 'width'), image.shape[2:]):
        found[name] = json.dumps(_range(side, program))
    if classes := meta.get('classes'):
        found['classes'] = json.dumps(list(map(str, classes)))
    palette = meta.get('palette')  # an array, of some data sets
    if palette is not None and len(palette):
        colours = [[int(value) for value in colour] for colour in palette]
        found['palette'] = json.dumps(colours)
    return found


def _range(side: Any, program: torch.export.ExportedProgram) -> list:
    if isinstance(side, int):
        return [side, side]
    limits = program.range_constraints[side.node.expr]
    # Unlimited is infinity of sympy's, or a number beyond all images.
    return [
        int(limits.lower),
        int(limits.upper) if limits.upper < 2**31 else None,
    ]
