from typing import Any

from mmengine.runner import FlexibleRunner

__all__ = ['WholeFlexibleRunner']


class WholeFlexibleRunner(FlexibleRunner):
    """mmengine's FlexibleRunner, whose trainings go on where they stood.

    Its own writes into a checkpoint that is saved after a validation that
    one iteration, or epoch, more was done: to go on from there leaves one
    out. The hook that saves knows the number, and mmengine's Runner keeps it.

    The model is built at once, for checks of it, and not at the start.
    """

    model: Any
    _said: dict = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model = self.strategy.build_model(self.model)

    def save_checkpoint(
        self, *args: Any, meta: dict | None = None, **kwargs: Any
    ) -> None:
        self._said = dict(meta or {})
        super().save_checkpoint(*args, meta=meta, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint']['meta'].update(self._said)
        super().call_hook(fn_name, **kwargs)
