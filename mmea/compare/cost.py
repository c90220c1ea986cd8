"""What members cost on maps of growing size."""

from collections.abc import Iterator

import torch
from torch import nn

from mmea.models import build_attention
from mmea.profiling import (
    count_macs,
    count_parameters,
    extrapolate,
    free_memory,
    peak_memory,
    saved_memory,
    time_steps,
)

__all__ = ['MODES', 'measure_costs']

MODES = ('inference', 'training')


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
        and weights); for inference macs and parameters; for training saved
        (bytes kept for the backward pass beyond input, output and weights).
    """
    sizes = sorted(set(sizes))
    layers = {
        label: build_attention(member, channels, padded=False).to(device)
        for label, member in members.items()
    }
    limits = dict(seconds=limit, memory=0.8 * free_memory(device))
    for mode in MODES:
        known = {label: {what: {} for what in limits} for label in layers}
        for size in sizes:
            fitting = {
                label: layer
                for label, layer in layers.items()
                if len(known[label]['seconds']) == sizes.index(size)
                and all(
                    extrapolate(known[label][what], size) <= limits[what]
                    for what in limits
                )
            }
            x = torch.randn(batch_size, channels, size, size, device=device)
            steps = {
                label: _Step(layer, x, mode)
                for label, layer in fitting.items()
            }
            times = time_steps(steps, device, rounds=rounds)
            for label, step in steps.items():
                row = dict(
                    member=label,
                    size=size,
                    mode=mode,
                    seconds=times[label],
                    memory=peak_memory(step, device),
                    **step.count(),
                )
                for what in limits:
                    known[label][what][size] = row[what]
                yield row


class _Step:
    """A pass forward, and in training backward."""

    def __init__(self, layer: nn.Module, x: torch.Tensor, mode: str):
        self.layer, self.mode = layer, mode
        self.x = x.detach().requires_grad_(mode == 'training')

    def __call__(self):
        self.layer.train(self.mode == 'training')
        if self.mode == 'inference':
            with torch.no_grad():
                return self.layer(self.x)
        self.layer.zero_grad()
        self.x.grad = None
        out = self.layer(self.x)
        out.backward(torch.ones_like(out))

    def count(self) -> dict:
        if self.mode == 'inference':
            return dict(
                macs=count_macs(self),
                parameters=count_parameters(self.layer),
            )
        own = [self.x, *self.layer.parameters()]
        return dict(saved=saved_memory(lambda: self.layer(self.x), own))
