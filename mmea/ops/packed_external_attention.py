import torch
import torch.nn.functional as F
from torch import Tensor

from .modes import is_traced

__all__ = ['packed_external_attention']

# Not unsigned: what descends would not be below zero.
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


def packed_external_attention(
    tokens: Tensor,
    offsets: Tensor,
    key_memory: Tensor,
    value_memory: Tensor,
    *,
    eps: float = 1e-9,
) -> Tensor:
    """Compute :func:`external_attention` of images of unequal size, packed.

    Their tokens lie one after the other and nothing is padded. What
    :func:`external_attention` gives with a mask, each image has here.

    Args:
        tokens (Tensor): (T, C), of all images.
        offsets (Tensor): int (B + 1): image i has the tokens
            ``offsets[i]:offsets[i + 1]``, from 0 to T, an empty one none. As
            ``offsets()`` of a jagged nested tensor, or ``cu_seqlens``. Their
            values are checked on a CPU only, elsewhere that would wait for
            the device.
        key_memory (Tensor): (S, C).
        value_memory (Tensor): (S, C_v).
        eps (float): See :func:`double_norm`.

    Returns:
        Tensor: (T, C_v).

    Raises:
        ValueError: ``tokens`` or ``offsets`` of another shape, dtype or
            device, or offsets that do not lead from 0 to T.

    Example:
        >>> import torch
        >>> from mmea.ops import packed_external_attention
        >>> key, value = torch.randn(16, 64), torch.randn(16, 64)
        >>> offsets = torch.tensor([0, 35, 100])  # of 35 and 65 tokens
        >>> tokens = torch.randn(100, 64)
        >>> packed_external_attention(tokens, offsets, key, value).shape
        torch.Size([100, 64])
    """
    _check_offsets(offsets, tokens)
    logits = F.linear(tokens, key_memory)  # (T, S)
    u = logits.to(torch.promote_types(logits.dtype, torch.float32))
    image = torch.bucketize(
        torch.arange(len(u), device=u.device), offsets[1:], right=True
    )
    # The log-sum-exp of each image and slot.
    empty = u.new_full((offsets.shape[0] - 1, u.shape[1]), -torch.inf)
    top = empty.scatter_reduce(
        0, image[:, None].expand_as(u), u.detach(), 'amax'
    )
    u = u - top.index_select(0, image)
    share = u.exp()
    # One after the other, in float32 they would lose digits.
    total = torch.zeros_like(empty, dtype=torch.float64)
    total = total.index_add(0, image, share.double())
    total = total.masked_fill(total == 0, 1).to(u.dtype)
    if eps > torch.finfo(u.dtype).tiny:
        attn = share * total.reciprocal().index_select(0, image)
        attn = attn / (attn.sum(1, keepdim=True) + eps)
    else:
        # As in double_norm: all slots of a token may underflow.
        attn = (u - total.log().index_select(0, image)).softmax(1)
    return attn.to(logits.dtype) @ value_memory.to(logits.dtype)


def _check_offsets(offsets: Tensor, tokens: Tensor) -> None:
    if tokens.dim() != 2:
        raise ValueError(
            f'tokens must be (T, C), of all images, got {tuple(tokens.shape)}'
        )
    if not isinstance(offsets, Tensor):
        raise ValueError(
            f'offsets must be a tensor, got {type(offsets).__name__}; '
            'torch.tensor() makes one'
        )
    if (
        offsets.dim() != 1
        or len(offsets) < 2
        or offsets.dtype not in _INTEGERS
        or offsets.device != tokens.device
    ):
        raise ValueError(
            'offsets must be integers (B + 1), where each image begins and '
            f'the last one ends, on {tokens.device}, got {offsets.dtype} '
            f'{tuple(offsets.shape)} on {offsets.device}'
        )
    if not offsets.is_cpu or is_traced() or torch.compiler.is_compiling():
        return
    first, last = int(offsets[0]), int(offsets[-1])
    if (first, last) != (0, len(tokens)) or bool((offsets.diff() < 0).any()):
        raise ValueError(
            f'offsets must ascend from 0 to {len(tokens)}, the number of '
            f'tokens, got {offsets.tolist()}'
        )
