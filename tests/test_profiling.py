"""The profiling counts, measures and extrapolates."""

import os
import time

import pytest
import torch
from torch import nn

from mmea import profiling


def test_peak_memory_counts_what_is_held_at_once():
    x = torch.randn(1000, 1000)  # 4 MB

    def step():
        a = x + 1
        b = a * 2
        del a
        return b + x

    assert profiling.peak_memory(step) == pytest.approx(8e6, rel=0.01)


def test_saved_memory():
    linear = nn.Linear(100, 50)
    x = torch.randn(1000, 100, requires_grad=True)
    own = [x, *linear.parameters()]

    def forward():
        return linear(x).sigmoid().exp()

    # Of the sigmoid's output; exp keeps its own output, which is returned.
    assert profiling.saved_memory(forward, own) == 1000 * 50 * 4


def test_count_macs_and_parameters():
    conv = nn.Conv2d(4, 8, 3, padding=1)
    conv.bias.requires_grad_(False)
    x = torch.randn(2, 4, 5, 7)
    assert profiling.count_macs(lambda: conv(x)) == 2 * 4 * 8 * 9 * 5 * 7
    assert profiling.count_parameters(conv) == 4 * 8 * 9


def test_time_steps_take_turns():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in ('a', 'b')}
    times = profiling.time_steps(steps, rounds=3)
    assert order == ['a', 'b'] * 4  # the first turn is not timed
    assert set(times) == {'a', 'b'} and min(times.values()) >= 0


def test_time_steps_stops_a_slow_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'process_time', lambda: now[0])
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    turns = dict(slow=0, quick=0)

    def step(name, seconds):
        turns[name] += 1
        now[0] += seconds

    times = profiling.time_steps(
        dict(slow=lambda: step('slow', 7), quick=lambda: step('quick', 1)),
        rounds=5,
        seconds=10,
    )
    assert times == dict(slow=7, quick=1)
    assert turns == dict(slow=3, quick=6)


def test_count_macs_of_scaled_dot_product_attention():
    q = torch.randn(2, 4, 30, 8, requires_grad=True)
    k, v = torch.randn(2, 4, 50, 8), torch.randn(2, 4, 50, 8)
    attend = nn.functional.scaled_dot_product_attention
    assert profiling.count_macs(lambda: attend(q, k, v)) == (
        2 * 4 * 30 * 50 * (8 + 8)
    )
    # The map once more, and two products for each of its two.
    step = profiling.count_macs(lambda: attend(q, k, v).sum().backward())
    assert step == 2 * 4 * 30 * 50 * 8 * (2 + 5)


def test_extrapolate():
    assert profiling.extrapolate({}, 64) == 0
    assert profiling.extrapolate({32: 3.0}, 64) == 3.0 * 16
    grown = profiling.extrapolate({8: 99.0, 16: 1.0, 32: 4.0}, 96)
    assert grown == pytest.approx(4.0 * 9)


def test_free_memory():
    pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    # Caches can be had too; the system moves a little meanwhile.
    assert 0.8 * free < profiling.free_memory() <= pages
