"""Checks and defaults of arguments and inputs that several layers share.

Each names the argument, what it may be and what it is, in one line.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ._forms import has_hooks

M = TypeVar('M', bound=nn.Module)

__all__ = [
    'check_choice',
    'check_config',
    'check_dtype',
    'check_flags',
    'check_indices',
    'check_int',
    'check_multiple',
    'check_number',
    'check_odd',
    'check_positive',
    'check_rates',
    'check_token_mask',
    'check_tokens',
    'keep_input',
    'make_module',
    'pick_heads',
]


def check_positive(**sizes: Any) -> None:
    """Raise a ValueError for the first size that is no int of 1 or more."""
    check_int(1, **sizes)


def check_int(low: int, **sizes: Any) -> None:
    """Raise a ValueError for the first that is no int of ``low`` or more.

    Neither a bool is one nor a number of numpy's, which a config could not
    hold; the latter becomes one by ``int()``.
    """
    for name, size in sizes.items():
        if type(size) is not int or size < low:
            raise ValueError(
                f'{name} must be an int >= {low}, got {name}={_say(size)}'
            )


def check_odd(**sizes: Any) -> None:
    """Raise a ValueError for the first that is no odd int of 1 or more."""
    check_positive(**sizes)
    for name, size in sizes.items():
        if size % 2 == 0:
            raise ValueError(f'{name} must be odd, got {name}={size}')


def check_multiple(divisor: dict[str, int], **sizes: int) -> None:
    """Raise a ValueError for the first that the divisor does not divide."""
    [(name, number)] = divisor.items()
    for other, size in sizes.items():
        if size % number:
            raise ValueError(
                f'{name} must divide {other}, got {name}={number} and '
                f'{other}={size}'
            )


def check_number(low: float = -math.inf, **numbers: Any) -> None:
    """Raise a ValueError for the first that is not finite or below ``low``."""
    for name, number in numbers.items():
        if not _is_finite(number) or number < low:
            above = '' if low == -math.inf else f' >= {low}'
            raise ValueError(
                f'{name} must be a finite number{above}, got '
                f'{name}={_say(number)}'
            )


def check_rates(**rates: Any) -> None:
    """Raise a ValueError for the first that is no number in [0, 1)."""
    for name, rate in rates.items():
        if not _is_finite(rate) or not 0 <= rate < 1:
            raise ValueError(
                f'{name} must be a number in [0, 1), got {name}={_say(rate)}'
            )


def check_flags(**flags: Any) -> None:
    """Raise a ValueError for the first that is neither True nor False."""
    for name, flag in flags.items():
        if type(flag) is not bool:
            raise ValueError(
                f'{name} must be True or False, got {name}={_say(flag)}'
            )


def check_choice(
    name: str, value: Any, choices: Iterable[Any], note: str = ''
) -> None:
    """Raise a ValueError for a value that is none of the choices."""
    known = list(choices)
    if type(value) not in (int, str, type(None)) or value not in known:
        names = ', '.join(map(str, known))
        raise ValueError(
            f'{name} must be one of {names}{note}, got {name}={_say(value)}'
        )


def check_config(**configs: Any) -> None:
    """Raise a TypeError for the first that is no dict with a ``type``."""
    for name, config in configs.items():
        if not isinstance(config, Mapping) or 'type' not in config:
            raise TypeError(
                f"{name} must be a dict with the key 'type', got "
                f'{name}={_say(config)}'
            )


def check_indices(
    out_indices: Any, name: str = 'out_indices'
) -> tuple[int, ...]:
    """Return an int or a sequence of them as a tuple, or raise a ValueError.

    Which are allowed, the caller knows.
    """
    many = out_indices
    if not isinstance(many, (list, tuple, range)):
        many = (out_indices,)
    if any(type(i) is not int for i in many):
        raise ValueError(
            f'{name} must be an int or a sequence of them, got '
            f'{name}={_say(out_indices)}'
        )
    return tuple(many)


def make_module(
    name: str, layer: Callable[..., nn.Module] | None, *args: Any
) -> Any:
    """Call what makes a module of a layer; a TypeError where it does not."""
    if layer is None:
        return None
    if isinstance(layer, nn.Module) or not callable(layer):
        raise TypeError(
            f'{name} must make a module when it is called, as its class does, '
            f'got {name}={_say(layer)}'
        )
    try:
        module = layer(*args)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        call = ', '.join(map(repr, args))
        raise kind(f'{name} failed, called with ({call}): {error}') from error
    if not isinstance(module, nn.Module):
        raise TypeError(f'{name} must make a module, made {_say(module)}')
    return module


def keep_input(module: M) -> M:
    """Let a module write over no input, as its host reads that again."""
    for part in module.modules():
        if getattr(part, 'inplace', False):
            part.inplace = False  # type: ignore[assignment]
    return module


def check_dtype(name: str, x: Tensor, module: nn.Module | None) -> None:
    """Raise a TypeError for an input that is not in the weights' dtype.

    Args:
        name (str): Of the input.
        x (Tensor): The input.
        module (nn.Module | None): What it meets. One that is not torch's own,
            or has hooks, may take what it likes, as long as it is floating.
    """
    weight = None
    # A parametrised one is not asked for: a spectral norm would take a step.
    if 'parametrizations' not in getattr(module, '_modules', ()):
        weight = getattr(module, 'weight', None)
    if weight is not None and x.dtype == weight.dtype:
        return
    want = 'floating'
    if x.is_floating_point():
        own = type(module) in (nn.Conv1d, nn.Conv2d, nn.Linear)
        if not own or has_hooks(module) or _autocasts(x, weight):  # type: ignore[arg-type]
            return
        want = f'{weight.dtype}, as the weights'  # type: ignore[union-attr]
    elif weight is not None:
        want = f'{weight.dtype}, as the weights'
    raise TypeError(
        f'{name} must be {want}, got {x.dtype} of shape {tuple(x.shape)}; '
        'convert the input or the layer, by to()'
    )


def check_tokens(
    name: str, x: Tensor, channels: int, size: str = 'embed_dims'
) -> None:
    """Raise a ValueError for tokens that are not (B, N, ``channels``)."""
    if torch.jit.is_tracing():
        return  # where a size is no number
    if x.dim() != 3 or x.shape[2] != channels:
        raise ValueError(
            f'{name} must be (B, N, C) with C = {size} = {channels}, got '
            f'{tuple(x.shape)}'
        )


def check_token_mask(
    name: str, mask: Tensor, x: Tensor, true: str = 'valid'
) -> None:
    """Raise a ValueError for a mask that is not bool (B, N), as the tokens."""
    if torch.jit.is_tracing():
        return
    want = tuple(x.shape[:2])
    if mask.dtype != torch.bool or tuple(mask.shape) != want:
        raise ValueError(
            f'{name} must be bool {want} (B, N), True = {true}, got '
            f'{mask.dtype} {tuple(mask.shape)}'
        )


def pick_heads(channels: int) -> int:
    """Pick the largest number of heads up to 8 that divides the channels."""
    return max(heads for heads in range(1, 9) if channels % heads == 0)


def _is_finite(number: Any) -> bool:
    return (
        isinstance(number, Real)
        and not isinstance(number, bool)
        and math.isfinite(number)
    )


def _say(value: Any) -> str:
    """Value and type, short and in one line."""
    text = ' '.join(repr(value).split())
    text = text if len(text) <= 60 else f'{text[:57]}...'
    if isinstance(value, (int, float, type(None))):
        return text
    return f'{text} ({type(value).__name__})'


def _autocasts(x: Tensor, weight: Tensor) -> bool:
    """Tell whether autocast makes the two alike; it leaves float64 alone."""
    if x.is_meta or torch.float64 in (x.dtype, weight.dtype):
        return False
    return torch.is_autocast_enabled(x.device.type)
