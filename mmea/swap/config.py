"""The swap in a config: what builds the model of it."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from mmea.registry import MODELS

from .surgery import swap_attention

__all__ = ['build_swapped']


@MODELS.register_module('SwapAttention')
def build_swapped(
    model: dict,
    rules: Sequence[dict],
    input_size: tuple[int, int] | None = None,
    **kwargs,
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
        left = '; '.join(map(str, report.left)) or 'it has no attention'
        raise ValueError(f'nothing was swapped in this model: {left}')
    print_log(str(report), 'current')
    return built
