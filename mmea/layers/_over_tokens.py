"""A softmax over tokens whose statistics may come from elsewhere."""

from collections.abc import Callable
from functools import partial
from threading import get_ident

from torch import Tensor, nn

from mmea.ops import TokenStats

__all__ = ['Exchange', 'OverTokens', 'is_asked']

#: Makes statistics of logits (B, S, N), a mask (B, N) or None, and the size
#: of the map that the tokens are, or None.
Exchange = Callable[
    [Tensor, Tensor | None, tuple[int, int] | None], TokenStats
]


class OverTokens:
    """Ask whoever is there, before a softmax over tokens, for statistics.

    A layer hands :meth:`stats_source` to ``double_norm``, whose logits have
    to be the same in each form of the layer: without what a bias adds.
    """

    #: False in a layer without such a softmax.
    over_tokens: bool = True
    #: By the thread that it is for. On the instance, and empty in training:
    #: no other model, thread or graph of torch.compile sees it.
    exchanges: dict[int, Exchange] | None = None

    def stats_source(
        self, size: tuple[int, int] | None = None
    ) -> Callable[[Tensor, Tensor | None], TokenStats] | None:
        """Return what makes the statistics, None for the tokens' own."""
        if not self.exchanges or not self.over_tokens:
            return None
        exchange = self.exchanges.get(get_ident())
        return None if exchange is None else partial(_ask, exchange, size)

    def __getstate__(self) -> dict:
        # A copy, or what is saved, belongs to no block.
        return {**self.__dict__, 'exchanges': None}


def is_asked(module: nn.Module) -> bool:
    """Tell whether someone stands between a layer inside and its tokens.

    Then it must not be recomputed in the backward pass, which would be another
    call, and on a GPU one of another thread.
    """
    return any(getattr(layer, 'exchanges', None) for layer in module.modules())


def _ask(
    exchange: Exchange,
    size: tuple[int, int] | None,
    logits: Tensor,
    mask: Tensor | None,
) -> TokenStats:
    return exchange(logits, mask, size)
