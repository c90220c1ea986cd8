"""What members cost on maps of growing size."""

from collections.abc import Iterator

import torch

from mmea.models import build_attention
from mmea.profiling import MODES, Limits, Step, free_memory, profile_steps

__all__ = ['measure_costs']


def measure_costs(
    members: dict[str, dict],
    channels: int,
    sizes: list[int],
    *,
    batch_size: int = 1,
    device: str = 'cpu',
    rounds: int = 5,
    limit: float = 10.0,
) -> Iterator[dict]:
    """Measure members by the side of each other.

    Args:
        members (dict[str, dict]): Configs by label.
        channels (int): Width of the maps.
        sizes (list[int]): Heights and widths in tokens.
        batch_size (int): Maps in a batch. Default: 1.
        device (str): 'cpu' or 'cuda'. Default: 'cpu'.
        rounds (int): Turns; the time is the median. Default: 5.
        limit (float): A step that should take longer than this many seconds,
            or more than 0.8 of the free memory, is left out, as far as
            smaller sizes tell. Default: 10.

    Yields:
        dict: member, size, mode, seconds and memory (bytes, peak beyond input
        and weights), macs and parameters; in training saved (bytes kept for
        the backward pass beyond input, output and weights).

    Raises:
        ValueError: A member cannot be built, or a map and what becomes of it
            do not fit into the free memory.
    """
    needed = 2 * 4 * batch_size * channels * max(sizes) ** 2
    free = free_memory(device)
    if needed > free:
        raise ValueError(
            f'input and output of {max(sizes)} x {max(sizes)} tokens and '
            f'{channels} channels take {needed / 1e9:.0f} GB, of '
            f'{free / 1e9:.0f} GB free; give smaller sizes'
        )
    layers = {
        label: build_attention(member, channels, padded=False).to(device)
        for label, member in members.items()
    }
    for mode in MODES:
        limits = Limits(limit, device)
        for size in sorted(set(sizes)):
            x = torch.randn(batch_size, channels, size, size, device=device)
            steps = {
                label: Step(layer, x, mode=mode)
                for label, layer in layers.items()
                if limits.allow(label, size)
            }
            for label, row in profile_steps(steps, device, rounds=rounds):
                limits.note(label, size, row)
                yield dict(member=label, size=size, mode=mode, **row)
