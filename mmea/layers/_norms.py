"""Norms under a padding mask, and batch norms in the low-rank form."""

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch import distributed as dist

from mmea.ops import BatchStats

_BatchNorm = nn.modules.batchnorm._BatchNorm


def is_plain(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Tell whether a module runs torch's own batch norm, synchronised or not.

    mmengine's reverted SyncBN does; a subclass with a forward of its own does
    not.
    """
    return isinstance(norm, _BatchNorm) and type(norm).forward in (
        _BatchNorm.forward,
        nn.SyncBatchNorm.forward,
    )


def uses_batch(norm: _BatchNorm) -> bool:
    """Tell whether it takes the statistics of the batch."""
    return norm.training or norm.running_mean is None


def as_affine(norm: _BatchNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale and shift, (C) each, of a norm with running statistics."""
    scale = torch.rsqrt(norm.running_var.to(dtype) + norm.eps)  # type: ignore[union-attr]
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean.to(dtype) * scale  # type: ignore[union-attr]
    return scale, shift if norm.bias is None else shift + norm.bias


def sync_group(norm: _BatchNorm) -> 'dist.ProcessGroup | None':
    """Find the processes whose statistics a norm shares, if any."""
    if not (
        isinstance(norm, nn.SyncBatchNorm)
        and norm.training
        and dist.is_available()
        and dist.is_initialized()
    ):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None


@torch.no_grad()
def update_running(norm: _BatchNorm, stats: BatchStats) -> None:
    """Update the buffers as torch's batch norm does in a training step."""
    if not norm.training or not norm.track_running_stats:
        return
    mean, var, count = stats
    # A batch without a valid token teaches nothing.
    step = (count > 0).to(mean.dtype)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(count > 0)
        if norm.momentum is None:  # the mean of all batches
            step = step / norm.num_batches_tracked.clamp(min=1)
    if norm.momentum is not None:
        step = step * norm.momentum
    unbiased = var * (count / (count - 1).clamp(min=1))
    for running, new in (
        (norm.running_mean, mean),
        (norm.running_var, unbiased),
    ):
        running.add_(step * (new - running))  # type: ignore[union-attr, operator]


def masked_norm(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Hand a norm the valid tokens and nothing else; zeros elsewhere.

    ``x`` is (B, C, H, W) or (B, C, N), ``mask`` the same without C.
    """
    out = torch.zeros_like(x)
    # What a norm of images or of sequences wants behind (M, C).
    tail = (1,) * (x.dim() - 2)
    if not mask.any():
        # In the graph all the same, or DDP would wait for their gradients.
        return out + 0 * sum((p.sum() for p in norm.parameters()), x)
    if isinstance(norm, (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)):
        # Statistics of each image.
        for i, valid in enumerate(mask):
            if valid.any():
                tokens = x[i][:, valid]  # (C, M)
                normed = norm(tokens.reshape(1, *tokens.shape, *tail[1:]))
                out[i][:, valid] = normed.view_as(tokens).to(x.dtype)
    else:
        # Statistics of the batch, or none over tokens: a batch of tokens.
        tokens = x.movedim(1, -1)[mask]  # (M, C)
        normed = norm(tokens.reshape(*tokens.shape, *tail))
        out.movedim(1, -1)[mask] = normed.flatten(1).to(x.dtype)
    return out
