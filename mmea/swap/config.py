"""The swap in a config: what writes it, and what builds the model of it."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from mmea.errors import UserError
from mmea.registry import MODELS

from .surgery import swap_attention

__all__ = ['build_swapped', 'wrap_in_swap']


def wrap_in_swap(cfg: Config, target: dict) -> None:
    """Write ``mmea.SwapAttention`` around a config's model. In place.

    The model's keys stay where they are, beside ``rules``, so that options
    and tools that look for model.backbone still find it.

    Args:
        cfg (Config): Of a whole training.
        target (dict): Config of the layer that takes every place.

    Raises:
        UserError: The config swaps the attention already.
    """
    if cfg.model.type == 'mmea.SwapAttention':
        raise UserError(
            f'{cfg.filename} swaps the attention itself, by model.rules; '
            'change those instead, or name a config that does not'
        )
    own = ('type', '_scope_', 'model', 'rules', 'input_size')
    inner = {key: cfg.model.pop(key) for key in own if key in cfg.model}
    cfg.model.update(
        type='mmea.SwapAttention',
        model=inner,
        rules=[dict(source='any', target=target)],
    )


@MODELS.register_module('SwapAttention')
def build_swapped(
    model: dict,
    rules: Sequence[dict],
    input_size: tuple[int, int] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a model and swap its attention, for ``type='mmea.SwapAttention'``.

    The model itself comes back, so that its state_dict and all that the stack
    does with it are as ever.

    Args:
        model (dict): Config of any model.
        rules, input_size: See :func:`swap_attention`.
        **kwargs: Further keys of ``model``, merged over it as a config over
            its base. But a ``data_preprocessor`` holds only where ``model``
            has none: the Runner sets a default one here.

    Returns:
        nn.Module: The built model.

    Raises:
        ValueError: Nothing was replaced, or see :func:`swap_attention`.
    """
    if 'data_preprocessor' in model:
        kwargs.pop('data_preprocessor', None)
    cfg = Config(dict(model=model))
    cfg.merge_from_dict(dict(model=kwargs))
    built = MMENGINE_MODELS.build(cfg.model)
    report = swap_attention(built, rules, input_size=input_size)
    if not report.replaced:
        left = '; '.join(map(str, report.left)) or (
            'it has no attention but that of mmea, whose type the config '
            'names, if it has any'
        )
        raise ValueError(f'nothing was swapped in this model: {left}')
    print_log(str(report), 'current')
    return built
