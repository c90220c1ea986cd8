"""A partition of samples into environments that a classifier finds unlike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.layers._checks import check_int, check_positive

__all__ = ['find_environments']

PENALTY_WEIGHT = 1e6  # of the IRM penalty beside the risk


def find_environments(
    features: Tensor,
    labels: Tensor,
    num_envs: int,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    seed: int = 0,
) -> Tensor:
    """Part samples so that their features are spurious.

    First a linear classifier with bias is fitted to the features. Then each
    sample's environment, a draw of its own logits (Gumbel, straight through),
    is learnt by ascent of ::

        mean over environments e of  R_e + 1e6 |dR_e / ds|^2  at s = 1

    R_e the mean cross entropy of the classifier's logits times s (K,), in e:
    large where the classifier of the features would be another one in each
    environment (the penalty of invariant risk minimisation).

    Args:
        features (Tensor): (N, C), spurious features.
        labels (Tensor): int64 (N,), classes from 0.
        num_envs (int): Environments.
        epochs (int): Of either step at most; the first one ends when the
            accuracy has not risen for six. Default: 100.
        batch_size (int): Default: 128.
        seed (int): Default: 0.

    Returns:
        Tensor: int64 (N,), environments from 0. One of them may be empty.

    Raises:
        ValueError: A number is no positive int, or features and labels have
            other shapes or types.

    Source: arXiv:2108.08782; both steps, the optimisers (SGD with momentum
    0.9, rates 0.01 and 0.1 with steps at 20 and 40), the weight of the
    penalty and the scale (the first loss is -50) from the authors' code.
    There the images are augmented anew each time.
    """
    check_positive(num_envs=num_envs, epochs=epochs, batch_size=batch_size)
    check_int(0, seed=seed)
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            'features must be floating, (N, C), got '
            f'{features.dtype} {tuple(features.shape)}'
        )
    if labels.dtype != torch.int64 or labels.shape != features.shape[:1]:
        raise ValueError(
            f'labels must be int64, ({len(features)},), one for each of the '
            f'features, got {labels.dtype} {tuple(labels.shape)}'
        )
    generator = torch.Generator(features.device).manual_seed(seed)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    with torch.enable_grad():
        logits = _fit(features, labels, epochs, batch_size, generator)
        return _part(logits, labels, num_envs, epochs, batch_size, generator)


def _fit(
    features: Tensor,
    labels: Tensor,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Logits (N, K) of a linear classifier with bias."""
    bound = features.shape[1] ** -0.5
    weight = features.new_empty(int(labels.max()) + 1, features.shape[1])
    bias = features.new_empty(len(weight))
    for param in (weight, bias):
        param.uniform_(-bound, bound, generator=generator).requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [20])
    best, stale = -1, 0
    for _ in range(epochs):
        right = 0
        for batch in _batches(len(labels), batch_size, generator):
            logits = F.linear(features[batch], weight, bias)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            right += int((logits.argmax(1) == labels[batch]).sum())
        schedule.step()
        best, stale = (right, 0) if right > best else (best, stale + 1)
        if stale > 5:
            break
    return F.linear(features, weight, bias).detach()


def _part(
    logits: Tensor,
    labels: Tensor,
    num_envs: int,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw the environments in which the logits do worst and least alike."""
    risks = F.cross_entropy(logits, labels, reduction='none')
    slopes = _slopes(logits, labels)
    shape = len(labels), num_envs
    split = torch.empty(shape, dtype=logits.dtype, device=logits.device)
    split = nn.Parameter(split.normal_(generator=generator))
    optimizer = torch.optim.SGD([split], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [40], 0.2)
    scale: Tensor | None = None
    best: Tensor | float = -torch.inf
    found: Tensor = split
    for _ in range(epochs):
        gains = []
        for batch in _batches(len(labels), batch_size, generator):
            share = _draw(split[batch], generator)
            gain = _gain(share, risks[batch], slopes[batch])
            if scale is None:
                tiny = torch.finfo(gain.dtype).tiny
                scale = 50 / gain.detach().clamp(min=tiny)
            optimizer.zero_grad()
            (-scale * gain).backward()
            optimizer.step()
            gains.append(gain.detach())
        schedule.step()
        mean = torch.stack(gains).mean()
        if mean > best:
            best, found = mean, split.detach().clone()
    return found.argmax(1)


def _batches(
    number: int, batch_size: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    order = torch.randperm(
        number, generator=generator, device=generator.device
    )
    return order.split(batch_size)


def _draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One-hot (B, E) by Gumbel noise, with the gradient of the softmax."""
    noise = -torch.empty_like(logits).exponential_(generator=generator).log()
    soft = (logits + noise).softmax(1)
    hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
    return hard + soft - soft.detach()


def _slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """d cross entropy(logits * s) / ds at s = 1, (N, K)."""
    target = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(1) - target) * logits


def _gain(share: Tensor, risks: Tensor, slopes: Tensor) -> Tensor:
    # An environment without a sample in the batch has neither.
    number = share.sum(0).clamp(min=1)
    risk = risks @ share / number
    penalty = ((share.t() @ slopes) / number[:, None]).square().sum(1)
    return (risk + PENALTY_WEIGHT * penalty).mean()
