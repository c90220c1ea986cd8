import torch
from torch import Tensor

from .modes import can_overwrite
from .token_stats import StatsSource, TokenStats

__all__ = ['double_norm']


def double_norm(
    logits: Tensor,
    *,
    eps: float = 1e-9,
    mask: Tensor | None = None,
    slot_mask: Tensor | None = None,
    over_tokens: bool = True,
    stats: StatsSource | None = None,
) -> Tensor:
    """Normalise twice: softmax over tokens, then L1 over slots.

    .. math::
        P_{sn} = \\mathrm{softmax}_n(L)_{sn}, \\qquad
        A_{sn} = P_{sn} / (\\epsilon + \\sum_{s'} P_{s'n})

    The control of an experiment, ``over_tokens=False``: each token reads the
    slots by itself.

    .. math::
        A_{sn} = \\mathrm{softmax}_s(L)_{sn}

    Half precision is computed in float32, also under autocast (which keeps
    softmax in half precision on a CPU), and rounded once at the end.

    Args:
        logits (Tensor): (B, S, N), S slots and N tokens.
        eps (float): Added to the sum over slots. The published block has
            1e-9; 0 gives the exact normalisation, stable for any logits.
        mask (Tensor | None): bool (B, N), True = valid. Invalid tokens do
            not enter the softmax over tokens and get an attention of 0.
        slot_mask (Tensor | None): bool (B, S), True = valid. Invalid slots do
            not enter the sum over slots and get an attention of 0.
        over_tokens (bool): False: softmax over slots alone, without ``eps``.
            Default: True.
        stats (TokenStats | Callable | None): The softmax over tokens takes
            these statistics, (B, S) or (1, S), instead of those of its own
            tokens, which may then be a part of an image; an image of empty
            ones gets zeros. Or what makes them of logits and mask. Default:
            None.

    Returns:
        Tensor: (B, S, N), in the dtype of ``logits``. Without a mask each
        token's sum over slots is 1, less what ``eps`` takes.

    Example:
        >>> import torch
        >>> from mmea.ops import double_norm
        >>> attn = double_norm(torch.randn(2, 8, 35))  # 8 slots, 35 tokens
        >>> torch.allclose(attn.sum(1), torch.ones(2, 35))
        True

    Raises:
        ValueError: ``stats`` of another shape, or without ``over_tokens``.

    Source: arXiv:2105.02358, "double normalization"; eps from the authors'
    code.
    """
    u = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        # A finite floor instead of -inf: an image without a valid token must
        # give zeros, forward and backward, and never inf - inf.
        floor = torch.finfo(u.dtype).min / 2
        u = u.masked_fill(~mask.unsqueeze(1), floor)
    if stats is not None:
        if not isinstance(stats, TokenStats):
            stats = stats(logits, mask)
        _check_stats(stats, u, over_tokens)
        attn = _by_stats(_mask_slots(u, slot_mask), stats, eps)
    elif not over_tokens:
        attn = _mask_slots(u, slot_mask).softmax(dim=1)
    elif eps > torch.finfo(u.dtype).tiny:
        # What underflows here is far below eps, and lost in it anyway.
        attn = u.softmax(dim=-1)
        if slot_mask is not None:
            attn = attn * slot_mask.unsqueeze(2)
        total = attn.sum(dim=1, keepdim=True) + eps
        attn = attn.div_(total) if can_overwrite() else attn / total
    else:
        # Nothing but the other slots to divide by, all of which may
        # underflow: the same as a softmax over slots of the logarithms.
        attn = _mask_slots(u.log_softmax(dim=-1), slot_mask).softmax(dim=1)
    if mask is not None:
        attn = attn * mask.unsqueeze(1)
    if slot_mask is not None:
        attn = attn * slot_mask.unsqueeze(2)
    return attn.to(logits.dtype)


def _mask_slots(u: Tensor, slot_mask: Tensor | None) -> Tensor:
    """Give invalid slots no share in a softmax over slots."""
    if slot_mask is None:
        return u
    floor = torch.finfo(u.dtype).min / 2
    return u.masked_fill(~slot_mask.unsqueeze(2), floor)


def _by_stats(u: Tensor, stats: TokenStats, eps: float) -> Tensor:
    """Normalise by a softmax over tokens that may not be these."""
    shift, weight = stats.shift_and_weight(u.dtype)
    u = u - shift.unsqueeze(2)
    # Any centre of a token's slots is exact. The largest keeps exp() in its
    # range; one far below eps would take eps out of it.
    centre = u.detach().amax(1, keepdim=True)
    bounded = eps > torch.finfo(u.dtype).tiny
    if bounded:
        centre = centre.clamp(min=-80)
    share = (u - centre).exp() * weight.unsqueeze(2)
    total = share.sum(1, keepdim=True)
    if bounded:
        total = total + eps * (-centre).exp()
    # Zero in an image without statistics.
    total = total.masked_fill(total == 0, 1)
    return share / total


def _check_stats(stats: TokenStats, u: Tensor, over_tokens: bool) -> None:
    if not over_tokens:
        raise ValueError(
            'stats are of the softmax over tokens; over_tokens=False has none'
        )
    images, slots = u.shape[:2]
    if tuple(stats.max.shape) not in ((images, slots), (1, slots)):
        raise ValueError(
            f'stats must be of {images} images, or one, and {slots} slots, '
            f'got {tuple(stats.max.shape)}'
        )
