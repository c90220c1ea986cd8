"""Measure what a step costs: time, memory, multiplications. torch only.

A step is a function without arguments, such as a :class:`Step`. On a CPU, time
is that of the process, so that other work on the machine counts little; on a
GPU it is that of the device.
"""

import json
import math
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

__all__ = [
    'MODES',
    'Limits',
    'Step',
    'count_macs',
    'count_macs_of_parts',
    'count_parameters',
    'extrapolate',
    'free_memory',
    'peak_memory',
    'profile_steps',
    'saved_memory',
    'time_steps',
]

MODES = ('inference', 'training')


class Step:
    """Run a module forward and, in training, backward.

    Args:
        module (nn.Module): It is put into the mode.
        *inputs (Tensor): What it takes; each gets a gradient in training.
        mode (str): 'inference' or 'training'.
        dtype (torch.dtype): What autocast computes in. Default: float32, no
            autocast.
        run (Callable, optional): Takes the inputs in the place of the module;
            returns a tensor or some.
    """

    def __init__(
        self,
        module: nn.Module,
        *inputs: Tensor,
        mode: str,
        dtype: torch.dtype = torch.float32,
        run: Callable | None = None,
    ) -> None:
        self.training = mode == 'training'
        self.module = module
        module.train(self.training)  # which returns nothing in mmpretrain
        self.inputs = [
            x.detach().requires_grad_(self.training) for x in inputs
        ]
        self.dtype = dtype
        self.run = module if run is None else run

    def forward(self) -> Tensor | list[Tensor]:
        with torch.autocast(
            self.inputs[0].device.type,
            self.dtype,
            enabled=self.dtype != torch.float32,
        ):
            return self.run(*self.inputs)

    def __call__(self) -> None:
        if not self.training:
            with torch.inference_mode():
                self.forward()
            return
        self.module.zero_grad()
        for x in self.inputs:
            x.grad = None
        outs = _as_list(self.forward())
        torch.autograd.backward(outs, [torch.ones_like(y) for y in outs])

    def count(self) -> dict[str, int]:
        """Count what is the same each time.

        Returns:
            dict[str, int]: parameters; macs, but of a compiled module, which
            is not seen through; in training saved, the bytes kept for the
            backward pass beyond inputs, outputs and weights.
        """
        found = dict(parameters=count_parameters(self.module))
        if not hasattr(self.run, '_orig_mod'):
            # Not in inference mode, which the counter's hooks do not bear.
            with torch.set_grad_enabled(self.training):
                run = self if self.training else self.forward
                found['macs'] = count_macs(run)
        if self.training:
            own = [*self.inputs, *self.module.parameters()]
            found['saved'] = saved_memory(self.forward, own)
        return found


class Limits:
    """Tell from smaller sizes which steps stay within time and memory.

    Args:
        seconds (float): Of a step.
        device (str): 'cpu' or 'cuda'; 0.8 of its free memory is the other
            limit. Default: 'cpu'.
    """

    def __init__(self, seconds: float, device: str = 'cpu') -> None:
        self._limits = dict(seconds=seconds, memory=0.8 * free_memory(device))
        self._rows: dict[str, dict[int, dict]] = defaultdict(dict)

    def note(self, name: str, size: int, row: dict) -> None:
        """Remember the seconds and the memory of a step; sizes ascend."""
        self._rows[name][size] = row

    def allow(self, name: str, size: int) -> bool:
        """Say whether a step should fit; without any row it does."""
        rows = self._rows[name]
        return all(
            extrapolate({s: row[what] for s, row in rows.items()}, size)
            <= limit
            for what, limit in self._limits.items()
        )


def profile_steps(
    steps: dict[str, Step],
    device: str = 'cpu',
    *,
    rounds: int = 5,
    seconds: float = 20.0,
) -> Iterator[tuple[str, dict]]:
    """Measure and count all of some steps, which take turns.

    Args:
        steps (dict[str, Step]): By name.
        device, rounds, seconds: Of :func:`time_steps`.

    Yields:
        tuple[str, dict]: The name; seconds (median), memory (bytes, peak) and
        what :meth:`Step.count` has.
    """
    times = time_steps(steps, device, rounds=rounds, seconds=seconds)
    for name, step in steps.items():
        memory = peak_memory(step, device)
        yield name, dict(seconds=times[name], memory=memory, **step.count())


def time_steps(
    steps: Mapping[str, Callable],
    device: str = 'cpu',
    *,
    rounds: int = 5,
    seconds: float = 20.0,
) -> dict[str, float]:
    """Measure the median time of each step, the steps taking turns.

    Args:
        steps (Mapping[str, Callable]): By name. Each runs once before,
            untimed.
        device (str): 'cpu' or 'cuda'. Default: 'cpu'.
        rounds (int): Turns, at most. Default: 5.
        seconds (float): No further turn of a step starts when all of its
            turns have taken this long; the first always does. Default: 20.

    Returns:
        dict[str, float]: Seconds.
    """
    clock = _time_on_gpu if device == 'cuda' else _time_on_cpu
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            if sum(times[name]) < seconds:
                times[name].append(clock(step))
    return {name: statistics.median(t) for name, t in times.items()}


def _time_on_cpu(step: Callable) -> float:
    # With several threads the process's time is the sum of theirs.
    one = torch.get_num_threads() == 1
    clock = time.process_time if one else time.perf_counter
    start = clock()
    step()
    return clock() - start


def _time_on_gpu(step: Callable) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_memory(step: Callable, device: str = 'cpu') -> int:
    """Measure the bytes that a step holds at its worst, beyond those before.

    On a CPU, as torch's own allocator sees it; scratch space of the matrix
    libraries is not in it.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(
        activities=[ProfilerActivity.CPU],
        profile_memory=True,
        acc_events=True,
    ) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'trace.json')
        profiler.export_chrome_trace(path)
        with open(path, encoding='utf-8') as file:
            events = json.load(file)['traceEvents']
    events = [event for event in events if event.get('name') == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event['args']['Ev Idx']):
        held += event['args']['Bytes']
        peak = max(peak, held)
    return peak


def saved_memory(
    forward: Callable[[], Tensor | list[Tensor]], own: Iterable[Tensor] = ()
) -> int:
    """Measure the bytes that a forward pass keeps for its backward pass.

    Args:
        forward (Callable): Returns the output or outputs, which are there
            anyway and do not count.
        own (Iterable[Tensor]): What does not count either: the input, the
            parameters. Default: none.
    """
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outs = _as_list(forward())
    for tensor in (*outs, *own):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def _as_list(out: Tensor | list[Tensor]) -> list[Tensor]:
    return [out] if isinstance(out, Tensor) else out


def _count_sdpa(
    query: torch.Size,
    key: torch.Size,
    value: torch.Size,
    *args: Any,
    **kwargs: Any,
) -> int:
    return sdpa_flop_count(query, key, value)


def _count_sdpa_backward(
    grad: torch.Size,
    query: torch.Size,
    key: torch.Size,
    value: torch.Size,
    *args: Any,
    **kwargs: Any,
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _count_baddbmm(
    x: torch.Size, a: torch.Size, b: torch.Size, *args: Any, **kwargs: Any
) -> int:
    return 2 * a.numel() * b[-1]


# torch counts its kernels for GPUs by itself, and what is not in place.
_UNCOUNTED = {
    torch.ops.aten.baddbmm_: _count_baddbmm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_sdpa,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _count_sdpa_backward
    ),
}


def count_macs(step: Callable) -> int:
    """Count multiply-accumulates of convolutions and matrix products."""
    with _counter() as counter:
        step()
    return counter.get_total_flops() // 2


def count_macs_of_parts(
    step: Callable, parts: Mapping[str, nn.Module]
) -> tuple[int, dict[str, int]]:
    """Count multiply-accumulates as :func:`count_macs`, and where they are.

    Args:
        step (Callable): Runs the parts, by calling them or their forward().
        parts (Mapping[str, nn.Module]): By name; they may lie in each other.

    Returns:
        tuple[int, dict[str, int]]: In all; of each part that ran.
    """
    macs: dict[str, int] = {}

    def counted(name: str, forward: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            before = counter.get_total_flops()
            out = forward(*args, **kwargs)
            done = (counter.get_total_flops() - before) // 2
            macs[name] = macs.get(name, 0) + done
            return out

        return run

    # torch sees modules that are called; mmseg runs head.forward().
    with _counter() as counter, ExitStack() as patches:
        for name, part in parts.items():
            run = counted(name, part.forward)
            patches.enter_context(patch.object(part, 'forward', run))
        step()
    return counter.get_total_flops() // 2, macs


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)


def count_parameters(module: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def extrapolate(values: dict[int, float], size: int) -> float:
    """Estimate a cost on a larger map from its growth over smaller ones.

    Args:
        values (dict[int, float]): The cost at each size, the height and width
            of a map in tokens; ascending.
        size (int): The larger one.

    Returns:
        float: Growing on as from the second to last size to the last, or with
        the square of the number of tokens while only one size is known; 0
        when none is.
    """
    if not values:
        return 0.0
    *smaller, last = values
    power = 4.0
    if smaller:
        before = smaller[-1]
        growth = math.log(values[last] / values[before])
        power = growth / math.log(last / before)
    return values[last] * (size / last) ** power


def free_memory(device: str = 'cpu') -> int:
    """Return the bytes that can be had now; for a CPU on Linux only."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    with open('/proc/meminfo', encoding='ascii') as file:
        fields = dict(line.split(':') for line in file)
    return int(fields['MemAvailable'].split()[0]) * 1024
