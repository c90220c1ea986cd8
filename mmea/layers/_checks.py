"""Checks of arguments, and choices that several layers make alike."""

import os

from torch import nn

FORMS = ('auto', 'plain', 'low_rank')
_HOOKS = (
    '_forward_pre_hooks',
    '_forward_hooks',
    '_backward_pre_hooks',
    '_backward_hooks',
)


def check_positive(**sizes: int):
    """Raise a ValueError for the first size that is no int of 1 or more."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f'{name} must be an int >= 1, got {name}={size}')


def pick_heads(channels: int) -> int:
    """The largest number of heads up to 8 that divides the channels."""
    return max(heads for heads in range(1, 9) if channels % heads == 0)


def check_form(form: str | None) -> str:
    name, value = 'form', form
    if form is None:
        name = 'the environment variable MMEA_EA_FORM'
        value = os.environ.get('MMEA_EA_FORM') or 'auto'
    if value not in FORMS:
        raise ValueError(f'{name} must be one of {FORMS}, got {value!r}')
    return value


def has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in _HOOKS)
