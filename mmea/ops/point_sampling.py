"""Choosing points of a cloud: far apart, or near each other."""

import torch
from torch import Tensor

from .modes import is_traced, without_autocast

__all__ = [
    'furthest_points',
    'gather_points',
    'group_neighbours',
    'nearest_points',
]

#: The published sampler never picks a point whose squared norm is not above.
NEAR_ORIGIN = 1e-3
#: Distances that are in memory at once, all clouds together.
MAX_PAIRS = 2**24


@torch.no_grad()
def furthest_points(
    points: Tensor,
    number: int,
    *,
    mask: Tensor | None = None,
    skip_near_origin: bool = False,
) -> Tensor:
    """Sample points that are far apart, one after the other.

    The first is the first point of the cloud; each further one is that whose
    distance to the nearest of those before is largest, on a tie the first
    such. Where all that are left coincide with those before, as in a cloud of
    copies, points come again.

    Args:
        points (Tensor): Coordinates (B, N, D).
        number (int): How many, n.
        mask (Tensor | None): bool (B, N), True = valid; others are not
            sampled. Default: None, all valid.
        skip_near_origin (bool): Sample no point of ``|x|^2 <= 1e-3`` but the
            first, as the published kernels, in which such points mean
            padding. Default: False.

    Returns:
        Tensor: Indices, int64 (B, n).

    Raises:
        ValueError: Another shape, a valid coordinate that is not finite, or a
            cloud of fewer points than ``number``.

    Example:
        >>> import torch
        >>> from mmea.ops import furthest_points
        >>> line = torch.arange(5.0).reshape(1, 5, 1)
        >>> furthest_points(line, 3)
        tensor([[0, 4, 2]])

    Source: arXiv:1706.02413, farthest point sampling.
    """
    points = _check_points('points', points, mask)
    _check_number(number, points, mask)
    open_ = torch.ones_like(points[..., 0], dtype=torch.bool)
    if mask is not None:
        open_ = mask
    first = open_.int().argmax(1)  # (B,)
    if skip_near_origin:
        open_ = open_ & (points.square().sum(2) > NEAR_ORIGIN)
    # Distances are at least 0: what is not open never is the largest, unless
    # nothing is open.
    distance = points.new_full(open_.shape, torch.inf)
    distance = distance.masked_fill(~open_, -1)
    batch = torch.arange(len(points), device=points.device)
    chosen = [first]
    for _ in range(number - 1):
        last = points[batch, chosen[-1]].unsqueeze(1)  # (B, 1, D)
        distance = distance.minimum((points - last).square().sum(2))
        best = distance.argmax(1)
        chosen.append(torch.where(open_.any(1), best, first))
    return torch.stack(chosen, 1)


@torch.no_grad()
def nearest_points(
    points: Tensor,
    queries: Tensor,
    number: int,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """Find the nearest points of each query, the nearest first.

    A query that is a point of the cloud is its own neighbour. Which of points
    at the same distance come first, or at all, is left to torch. Distances
    are computed for some queries at a time, never all M x N of them where
    that is much.

    Args:
        points (Tensor): Coordinates (B, N, D).
        queries (Tensor): Coordinates (B, M, D).
        number (int): How many, k.
        mask (Tensor | None): bool (B, N), True = valid; other points are no
            neighbours. Default: None, all valid.

    Returns:
        Tensor: Indices, int64 (B, M, k).

    Raises:
        ValueError: As of :func:`furthest_points`.

    Example:
        >>> import torch
        >>> from mmea.ops import nearest_points
        >>> line = torch.arange(5.0).reshape(1, 5, 1)
        >>> nearest_points(line, torch.tensor([[[3.2]]]), 2)
        tensor([[[3, 4]]])
    """
    points = _check_points('points', points, mask)
    queries = _check_points('queries', queries, None)
    if queries.shape[::2] != points.shape[::2]:
        raise ValueError(
            'queries must be (B, M, D) with B and D of the points '
            f'{tuple(points.shape)}, got {tuple(queries.shape)}'
        )
    _check_number(number, points, mask)
    rows = max(1, MAX_PAIRS // max(1, points[..., 0].numel()))
    found = []
    with without_autocast(points):
        for part in queries.split(rows, 1):
            # By a product of matrices near points would have a distance of
            # rounding errors.
            distance = torch.cdist(
                part, points, compute_mode='donot_use_mm_for_euclid_dist'
            )
            if mask is not None:
                distance = distance.masked_fill(~mask.unsqueeze(1), torch.inf)
            found.append(distance.topk(number, largest=False)[1])
    return torch.cat(found, 1)


def gather_points(features: Tensor, index: Tensor) -> Tensor:
    """Take features of points by their indices.

    Args:
        features (Tensor): (B, N, C).
        index (Tensor): int64 (B, ...).

    Returns:
        Tensor: (B, ..., C).
    """
    flat = index.flatten(1).unsqueeze(2).expand(-1, -1, features.shape[2])
    return features.gather(1, flat).unflatten(1, index.shape[1:])


def group_neighbours(
    features: Tensor, neighbours: Tensor, centres: Tensor
) -> Tensor:
    """Set the features of neighbours beside those of their centre.

    ``concat(f_neighbour - f_centre, f_centre)``.

    Args:
        features (Tensor): (B, N, C).
        neighbours (Tensor): Indices (B, M, k).
        centres (Tensor): Indices (B, M).

    Returns:
        Tensor: (B, M, k, 2 C).

    Source: arXiv:2012.09688, neighbour embedding.
    """
    centre = gather_points(features, centres).unsqueeze(2)  # (B, M, 1, C)
    near = gather_points(features, neighbours)  # (B, M, k, C)
    return torch.cat([near - centre, centre.expand_as(near)], 3)


def _check_points(name: str, points: Tensor, mask: Tensor | None) -> Tensor:
    """Return coordinates of at least single precision, or say what is bad."""
    if points.dim() != 3 or not points.is_floating_point():
        raise ValueError(
            f'{name} must be floating (B, N, D), got {points.dtype} '
            f'{tuple(points.shape)}'
        )
    if mask is not None:
        want = points.shape[:2]
        if mask.dtype != torch.bool or mask.shape != want:
            raise ValueError(
                f'mask must be bool {tuple(want)} (B, N), True = valid, got '
                f'{mask.dtype} {tuple(mask.shape)}'
            )
        # 0 times NaN would be NaN.
        points = points.masked_fill(~mask.unsqueeze(2), 0)
    if _has_values(points) and not points.isfinite().all():
        cloud = (~points.isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise ValueError(
            f'{name} must be finite, got NaN or inf in cloud {cloud} of the '
            'batch; remove such points or mask them'
        )
    return points.to(torch.promote_types(points.dtype, torch.float32))


def _check_number(number: int, points: Tensor, mask: Tensor | None) -> None:
    if type(number) is not int or number < 1:
        raise ValueError(f'number must be an int >= 1, got {number=}')
    have = points.shape[1]
    if mask is not None and have and _has_values(mask):
        have = int(mask.sum(1).min()) if len(mask) else have
    if number > have:
        raise ValueError(
            f'number={number} points were asked for of a cloud of {have}; '
            'ask for fewer, or give larger clouds'
        )


def _has_values(x: Tensor) -> bool:
    """Tell whether it may be looked at: not on meta, not by a tracer."""
    return not (x.is_meta or is_traced() or torch.compiler.is_compiling())
