"""Parameters and multiply-accumulates of a config's model, part by part."""

import contextlib
import sys
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmea.engine.data_checks.files import data_parts
from mmea.engine.preflight import check_packages
from mmea.errors import UserError, in_one_line
from mmea.profiling import count_macs_of_parts, count_parameters
from mmea.swap.count import attention_layers, count_forward

__all__ = ['complexity']

NOT_COUNTED = 'norms, activations, pooling, resampling, sums'


def complexity(
    cfg: Config, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Count what one image takes, in a test, from the net's input on.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
        size (tuple[int, int] | None): Height and width of the image.
            Default: that of the data preprocessor, or of the test pipeline
            on a landscape that fills it, or 512 x 512,
            for a classifier 224 x 224. Of a GAN it is that of what it makes.

    Returns:
        dict[str, Any]: size; parameters, trained, macs; parts, of each child
        of the model that has parameters, and attention, of each attention
        layer, dicts by name with type, parameters, trained and macs, which
        is None for what was not called; not_counted, a list of text.

    Raises:
        UserError: The model cannot be built, or does not take this size or,
            a GAN, does not make it.
    """
    check_packages(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    # What is told of a swap is no part of what is printed for programs.
    with (
        in_one_line(f'cannot build the model of {cfg.filename}'),
        contextlib.redirect_stdout(sys.stderr),
    ):
        model: Any = MODELS.build(cfg.model)
    made = getattr(model, 'image_size', None)  # of a GAN
    if made and size and tuple(size) != made:
        raise UserError(
            f'the model of {cfg.filename} makes images of {made[0]} x '
            f'{made[1]} and takes none, got --shape {size[0]} {size[1]}; '
            'leave it out'
        )
    size = made or size or _size(cfg, model.data_preprocessor)
    parts = {n: m for n, m in model.named_children() if _number(m)}
    layers = attention_layers(model)
    try:
        macs, counted = count_forward(
            model,
            size,
            partial(count_macs_of_parts, parts=parts | layers),
            channels=getattr(
                model.data_preprocessor, 'mean', torch.ones(3)
            ).numel(),
        )
    except Exception as error:
        raise UserError(
            f'the model of {cfg.filename} does not take an image of '
            f'{size[0]} x {size[1]} ({type(error).__name__}: {error}); '
            'give another --shape; models of point clouds and of pairs of '
            'views are not counted'
        ) from error
    return dict(
        size=list(size),
        **_row(model, macs),
        parts={n: _row(m, counted.get(n)) for n, m in parts.items()},
        attention={n: _row(m, counted.get(n)) for n, m in layers.items()},
        not_counted=_not_counted(
            model, [n for n in parts if n not in counted]
        ),
    )


def _size(cfg: Config, preprocessor: nn.Module) -> tuple[int, int]:
    """Find height and width of an image as the net gets it in a test."""
    if size := getattr(preprocessor, 'size', None):
        return size
    scope = cfg.get('default_scope')
    found: Any = 224 if scope == 'mmpretrain' else 512
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    _, first = next(data_parts(dataset, ''), ('', dataset))
    if scope != 'mmseg':  # its scales are upper limits
        for step in first.get('pipeline') or ():
            found = step.get('crop_size') or step.get('scale') or found
    edges = found if isinstance(found, (list, tuple)) else (found, found)
    divisor = getattr(preprocessor, 'pad_size_divisor', 1)
    height, width = (-(-n // divisor) * divisor for n in sorted(edges))
    return height, width


def _number(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def _row(module: nn.Module, macs: int | None) -> dict[str, Any]:
    return dict(
        type=type(module).__name__,
        parameters=_number(module),
        trained=count_parameters(module),
        macs=macs,
    )


def _not_counted(model: nn.Module, idle: list[str]) -> list[str]:
    found = [NOT_COUNTED]
    ops = {
        type(module).__name__
        for module in model.modules()
        if type(module).__module__.startswith('mmcv.ops')
    }
    if ops:
        found.append(f'ops of mmcv: {", ".join(sorted(ops))}')
    if idle:
        found.append(f'parts that were not called: {", ".join(idle)}')
    return found
