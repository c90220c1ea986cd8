"""The choice between two forms of one layer."""

import os

import torch
from torch import Tensor, nn

from mmea.ops import is_traced

FORMS = ('auto', 'plain', 'low_rank')
_HOOKS = (
    '_forward_pre_hooks',
    '_forward_hooks',
    '_backward_pre_hooks',
    '_backward_hooks',
)


class TwoForms:
    """Choose between the plain and the low-rank form of a layer.

    A layer sets ``form`` and implements :meth:`_obstacle`,
    :meth:`_count_products` and :meth:`switch_to_deploy`.
    """

    form: str
    training: bool
    deployed_key: Tensor
    _parameters: dict[str, nn.Parameter | None]

    def _obstacle(self) -> tuple | None:
        """Find what makes the low-rank form inexact.

        Returns:
            tuple | None: A format string and its arguments. Nobody reads the
            sentence in training, so it is not made here.
        """
        raise NotImplementedError

    def _count_products(self, num_tokens: int) -> tuple[int, int]:
        """Count the multiplications of the plain and the low-rank form.

        Of all tokens, and of the folding once per step.
        """
        raise NotImplementedError

    @property
    def deployed(self) -> bool:
        """Whether :meth:`switch_to_deploy` was called."""
        return hasattr(self, 'deployed_key')

    def switch_to_deploy(self) -> None:
        """Fold what can be for good, as ``deployed_key`` and others."""
        raise NotImplementedError

    def check_foldable(self) -> None:
        """Raise a ValueError if the layer cannot be folded exactly."""
        if self.deployed:
            return
        obstacle = self._obstacle()
        for name in ('key_memory', 'value_memory', 'key_bias', 'value_bias'):
            tensor = getattr(self, name, None)
            # But it has a parametrisation.
            if tensor is not None and name not in self._parameters:
                obstacle = obstacle or ('{} is no plain parameter', name)
        if obstacle is not None:
            raise ValueError(f'the layer cannot be folded: {_say(*obstacle)}')

    def _refuse_deployed(self, what: str) -> None:
        if self.deployed:
            raise RuntimeError(
                f'switch_to_deploy() has folded this layer, which {what}; '
                'train or initialise the layer that it was made from'
            )

    def _check_folded(self, name: str, x: Tensor) -> None:
        """Refuse the call of a folded layer that it cannot serve."""
        if self.training:
            self._refuse_deployed('is for inference: call eval()')
        # Folded memories of half precision are in float32.
        full = torch.promote_types(x.dtype, torch.float32)
        if self.deployed and self.deployed_key.dtype not in (x.dtype, full):
            raise TypeError(
                f'{name} must be {self.deployed_key.dtype}, as the folded '
                f'weights, got {x.dtype}; convert the input or the layer, by '
                'to()'
            )

    def _use_low_rank(self, num_tokens: int) -> bool:
        if self.form == 'plain':
            return False
        obstacle = self._obstacle()
        if self.form != 'auto':  # 'low_rank', or 'kernel', which is one
            if obstacle is not None:
                raise ValueError(
                    f'form={self.form!r} is impossible: {_say(*obstacle)}; '
                    "use form='auto' or 'plain', here or in MMEA_EA_FORM"
                )
            return True
        if obstacle is not None:
            return False
        if is_traced():  # the graph is for any number, so for a large one
            num_tokens = 10**9
        plain, low_rank = self._count_products(num_tokens)
        return low_rank < plain

    def _explain_form(self, num_tokens: int) -> tuple[str, str]:
        form = 'low_rank' if self._use_low_rank(num_tokens) else 'plain'
        if self.form != 'auto':
            return form, f'form={self.form!r} was asked for'
        obstacle = self._obstacle()
        if obstacle is not None:
            return form, _say(*obstacle)
        plain, low_rank = self._count_products(num_tokens)
        return form, (
            f'{low_rank} multiplications in the low-rank form, {plain} in '
            'the plain form'
        )


def _say(text: str, *values: object) -> str:
    return text.format(*values)


def find_obstacle(name: str, module: nn.Module, kind: type) -> tuple | None:
    """Find what keeps a projection from being its weights and no more.

    A wrapper (LoRA, quantisation, a parametrisation) or a hook may compute
    something else than the weights say.
    """
    if type(module) is not kind:
        return (
            '{} is a {}, not a {}',
            name,
            type(module).__name__,
            (kind.__name__),
        )
    return ('{} has hooks', name) if has_hooks(module) else None


def has_hooks(module: nn.Module) -> bool:
    """Tell whether calling a module does more than its forward()."""
    if 'forward' in vars(module):  # replaced in this one, as by accelerate
        return True
    return any(getattr(module, name) for name in _HOOKS)


def check_form(form: str | None, *, kernel: bool = False) -> str:
    """Read the form of a layer, from the environment where it is None.

    Args:
        form (str | None): What the layer was made with.
        kernel (bool): The layer has kernels too, and takes 'kernel'; from the
            environment that is 'auto' to one without. Default: False.
    """
    forms = (*FORMS, 'kernel') if kernel else FORMS
    name, value = 'form', form
    if value is None:
        name = 'the environment variable MMEA_EA_FORM'
        value = os.environ.get('MMEA_EA_FORM') or 'auto'
        if value == 'kernel' and not kernel:
            return 'auto'
    if value not in forms:
        raise ValueError(f'{name} must be one of {forms}, got {value!r}')
    return value
