import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from mmea.registry import MODELS

if TYPE_CHECKING:  # what it is mixed in front of
    from mmengine.model import BaseModule as _Base
else:
    _Base = object

__all__ = ['DynamicBackbone']


class DynamicBackbone(_Base):
    """A backbone built on one of the stack, which its config names.

    A subclass is mixed in front of the class that ``base`` names, so that the
    model is still one of that kind: ``isinstance`` holds, all its arguments
    are there, and the names of its parameters stay.

    Args:
        base (str | None): Type of the backbone, with its scope or without.
            Default: None, the subclass's ``default_base``.
        kwargs: Of the subclass and of the backbone.

    Raises:
        ValueError: No such backbone is registered.
    """

    default_base: str

    def __new__(cls, *, base: str | None = None, **kwargs: Any) -> Any:
        if not issubclass(cls, nn.Module):
            cls = _mix(cls, _find(base or cls.default_base))  # type: ignore[arg-type]
        return super().__new__(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle names both classes, for theirs has no place in a module.
        return _restore, type(self).__bases__, self.__dict__


def _find(base: str) -> type:
    with MODELS.switch_scope_and_registry(None) as registry:
        cls = registry.get(base) if isinstance(base, str) else base
    if not inspect.isclass(cls):
        raise ValueError(
            f'base={base!r} is no registered backbone; write its scope too, '
            'such as mmdet.ResNet, and see that its package is installed'
        )
    return cls


@cache
def _mix(own: type, base: type) -> type:
    """One class for each pair, so that two models of a kind are of a class."""
    return type(
        f'{own.__name__}On{base.__name__}',
        (own, base),
        dict(__doc__=base.__doc__, __module__=__name__),
    )


def _restore(own: type, base: type) -> nn.Module:
    return object.__new__(_mix(own, base))
