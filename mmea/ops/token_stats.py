"""What the softmax over tokens needs to know of all tokens, mergeable."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

__all__ = ['StatsSource', 'TokenStats']


@dataclass(frozen=True, eq=False)
class TokenStats:
    """Summarise the logits of any tokens: all that a softmax over them needs.

    For each image and slot the largest logit m and ``z = sum exp(L - m)``.
    Summaries of parts of an image merge, in any order and grouping, to that
    of the whole; gradients pass through ``sum``.

    Args:
        max (Tensor): (B, S), the largest logit, less what :meth:`decay` took;
            -inf where there is no token.
        sum (Tensor): (B, S), of the exponentials of what is above ``max``; 0
            where there is no token.

    Both are kept in float64.

    Raises:
        ValueError: Other shapes.

    Example:
        >>> import torch
        >>> from mmea.ops import TokenStats
        >>> logits = torch.randn(2, 8, 35)  # (B, S, N)
        >>> left, right = logits.split([20, 15], 2)
        >>> whole = TokenStats.of(right) + TokenStats.of(left)
        >>> lse = whole.max + whole.sum.log()
        >>> torch.allclose(lse.float(), logits.logsumexp(2))
        True
    """

    max: Tensor
    sum: Tensor

    def __post_init__(self) -> None:
        if self.max.dim() != 2 or self.max.shape != self.sum.shape:
            raise ValueError(
                'max and sum must both be (B, S), got '
                f'{tuple(self.max.shape)} and {tuple(self.sum.shape)}'
            )
        for name in ('max', 'sum'):
            object.__setattr__(self, name, getattr(self, name).double())

    @classmethod
    def of(cls, logits: Tensor, mask: Tensor | None = None) -> 'TokenStats':
        """Summarise logits (B, S, N), any N.

        Args:
            logits (Tensor): (B, S, N).
            mask (Tensor | None): bool (B, N), True = valid. Default: None,
                all valid.
        """
        u = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if mask is not None:
            u = u.masked_fill(~mask.unsqueeze(1), -torch.inf)
        if not u.shape[2]:
            # In the graph all the same: other processes wait for its sums.
            u = F.pad(u, (0, 1), value=-torch.inf)
        top = u.detach().amax(2)
        above = u - _finite(top).unsqueeze(2)
        return cls(top, above.exp().sum(2, dtype=torch.float64))

    @classmethod
    def empty(
        cls,
        images: int,
        slots: int,
        device: torch.device | str | None = None,
    ) -> 'TokenStats':
        """Summarise no token: neutral to :meth:`merge`."""
        zeros = torch.zeros(images, slots, device=device)
        return cls(zeros - torch.inf, zeros)

    def merge(self, other: 'TokenStats') -> 'TokenStats':
        """Summarise the tokens of both; ``+`` does the same.

        Raises:
            ValueError: Another number of images or slots.
        """
        if self.max.shape != other.max.shape:
            raise ValueError(
                'statistics merge where images and slots (B, S) are as many, '
                f'got {tuple(self.max.shape)} and {tuple(other.max.shape)}; '
                'pool() makes one image of all'
            )
        top = torch.maximum(self.max, other.max)
        return TokenStats(top, self._sum_above(top) + other._sum_above(top))

    __add__ = merge

    def pool(self) -> 'TokenStats':
        """Merge the images to one context for all, (1, S)."""
        top = self.max.amax(0, keepdim=True)
        return TokenStats(top, self._sum_above(top).sum(0, keepdim=True))

    def decay(self, factor: float) -> 'TokenStats':
        """Let each token count ``factor`` of what it did, above 0 to 1.

        Raises:
            ValueError: Another factor.
        """
        if not 0 < factor <= 1:
            raise ValueError(f'factor must be in (0, 1], got {factor=}')
        # In the exponent, where many small factors never underflow.
        log = torch.tensor(factor, dtype=torch.float64).log().item()
        return TokenStats(self.max + log, self.sum)

    def over(self, process_group: ProcessGroup | None = None) -> 'TokenStats':
        """Merge with those of the other processes, same B and S in each.

        One all-gather of 2 B S numbers; backward one all-reduce of B S, in
        which every process has to take part.

        Args:
            process_group (ProcessGroup | None): Default: None, all processes.
        """
        return TokenStats(*_Over.apply(self.max, self.sum, process_group))

    def to_tensor(self) -> Tensor:
        """Give (2, B, S), float64, as to save or to send."""
        return torch.stack([self.max, self.sum])

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> 'TokenStats':
        """Take what :meth:`to_tensor` gave.

        Raises:
            ValueError: Another shape.
        """
        if tensor.dim() != 3 or len(tensor) != 2:
            raise ValueError(
                f'tensor must be (2, B, S), got {tuple(tensor.shape)}'
            )
        return cls(*tensor)

    def to(self, device: torch.device | str) -> 'TokenStats':
        """Copy to a device, one that has float64."""
        return TokenStats(self.max.to(device), self.sum.to(device))

    def detach(self) -> 'TokenStats':
        """Leave the graph."""
        return TokenStats(self.max.detach(), self.sum.detach())

    def __len__(self) -> int:
        """Count the images."""
        return len(self.max)

    def __getitem__(self, index: Any) -> 'TokenStats':
        """Take images: by a number, (1, S), a slice, or a tensor."""
        if not isinstance(index, slice) and not getattr(index, 'ndim', 0):
            index = index if isinstance(index, list) else [int(index)]
        return TokenStats(self.max[index], self.sum[index])

    def _sum_above(self, top: Tensor) -> Tensor:
        return self.sum * (self.max - _finite(top)).exp()

    def shift_and_weight(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Split the normaliser: ``softmax = exp(L - shift) * weight``.

        Two (B, S), so that nothing large is rounded; the weight is 0 where
        there is no token.
        """
        shift = _finite(self.max).to(dtype)
        total = self.sum.masked_fill(self.sum == 0, torch.inf)
        weight = (shift - _finite(self.max)).exp() / total
        return shift, weight.to(dtype)


#: Statistics, or what makes them of logits (B, S, N) and mask (B, N) or None.
StatsSource = TokenStats | Callable[[Tensor, Tensor | None], TokenStats]


def _finite(top: Tensor) -> Tensor:
    """Replace -inf, of which inf - inf would come."""
    return top.masked_fill(top == -torch.inf, 0)


class _Over(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, top: Tensor, total: Tensor, group: ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        own = TokenStats(top, total)
        tensor = own.to_tensor()
        size = torch.distributed.get_world_size(group)
        parts = [torch.empty_like(tensor) for _ in range(size)]
        torch.distributed.all_gather(parts, tensor, group=group)
        whole = reduce(TokenStats.merge, map(TokenStats.from_tensor, parts))
        ctx.group = group
        ctx.save_for_backward((top - _finite(whole.max)).exp())
        ctx.mark_non_differentiable(whole.max)
        return whole.max, whole.sum

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, _: Tensor, grad: Tensor
    ) -> tuple[None, Tensor, None]:
        grad = grad.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(grad, group=ctx.group)
        return None, grad * ctx.saved_tensors[0], None
