"""Stand between the layers of a model and the statistics of their tokens."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident

from torch import Tensor, nn

from mmea.layers._over_tokens import OverTokens
from mmea.ops import TokenStats

__all__ = ['answering', 'find_layers']

Size = tuple[int, int] | None
#: Name of a call, logits, mask and size of the map, to statistics or None.
Answer = Callable[[str, Tensor, Tensor | None, Size], TokenStats | None]


def find_layers(model: nn.Module) -> dict[str, OverTokens]:
    """Find the layers with a softmax over tokens that reads memories.

    Raises:
        ValueError: There is none.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, OverTokens) and module.over_tokens
    }
    if not layers:
        raise ValueError(
            f'{type(model).__name__} has no layer of external attention'
        )
    return layers


@contextmanager
def answering(model: nn.Module, answer: Answer) -> Iterator[None]:
    """Answer the layers of a model, in this thread, inside the block.

    The second call of a layer in one run of the model, as of a head that all
    levels share, has the name ``'name#2'``. Where the answer is None, that of
    a block around this one holds, at last the tokens' own statistics.
    """
    thread = get_ident()
    calls: Counter[str] = Counter()

    layers = find_layers(model)
    outer = {
        name: (layer.exchanges or {}).get(thread)
        for name, layer in layers.items()
    }
    hook = model.register_forward_pre_hook(_Restart(thread, calls))
    try:
        for name, layer in layers.items():
            around = outer[name]
            assert around is None or isinstance(around, _Exchange)
            if layer.exchanges is None:
                layer.exchanges = {}
            layer.exchanges[thread] = _Exchange(name, answer, around, calls)
        yield
    finally:
        hook.remove()
        for name, layer in layers.items():
            exchanges, before = layer.exchanges or {}, outer[name]
            exchanges.pop(thread, None)
            if before is not None:
                exchanges[thread] = before


class _Exchange:
    def __init__(
        self,
        name: str,
        answer: Answer,
        outer: '_Exchange | None',
        calls: Counter[str],
    ) -> None:
        self.name = name
        self.answer = answer
        self.outer = outer
        self.calls = calls

    def __call__(
        self, logits: Tensor, mask: Tensor | None, size: Size
    ) -> TokenStats:
        for answer, name in self._count():
            stats = answer(name, logits, mask, size)
            if stats is not None:
                return stats
        return TokenStats.of(logits, mask)

    def _count(self) -> list[tuple[Answer, str]]:
        """Count the call in this block and in those around it."""
        self.calls[self.name] += 1
        call = self.calls[self.name]
        name = self.name if call == 1 else f'{self.name}#{call}'
        around = [] if self.outer is None else self.outer._count()
        return [(self.answer, name), *around]


class _Restart:
    """Count anew in each run of a model; its copies count nothing."""

    def __init__(self, thread: int, calls: Counter[str]) -> None:
        self.thread, self.calls = thread, calls

    def __call__(self, *_: object) -> None:
        if get_ident() == self.thread:
            self.calls.clear()

    def __reduce__(self) -> tuple:
        return _Restart, (0, Counter())
