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


def test_count_macs_of_a_product_in_place():
    x, a, b = torch.zeros(2, 3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    assert profiling.count_macs(lambda: x.baddbmm_(a, b)) == 2 * 3 * 4 * 5


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


class TestStep:
    @pytest.mark.parametrize('mode', profiling.MODES)
    def test_runs_its_mode(self, mode):
        step = profiling.Step(nn.Linear(4, 3), torch.randn(5, 4), mode=mode)
        for _ in range(2):
            step()
        assert step.module.training == (mode == 'training')
        grads = [step.inputs[0].grad, step.module.bias.grad]
        if mode == 'inference':
            assert grads == [None, None]
        else:  # of the last run alone
            torch.testing.assert_close(grads[1], torch.full((3,), 5.0))
            weight = step.module.weight.detach()
            expected = weight.sum(0).expand(5, 4)
            torch.testing.assert_close(grads[0], expected)

    def test_counts(self):
        x = torch.randn(5, 4)
        counts = [
            profiling.Step(nn.Linear(4, 3), x, mode=mode).count()
            for mode in profiling.MODES
        ]
        macs = 5 * 4 * 3
        assert counts == [
            dict(parameters=15, macs=macs),
            dict(parameters=15, macs=3 * macs, saved=0),
        ]

    def test_several_inputs_and_outputs_under_autocast(self):
        layers = nn.ModuleList([nn.Linear(4, 3), nn.Linear(2, 3)])
        seen = []

        def run(*xs):
            outs = [layer(x) for layer, x in zip(layers, xs)]
            seen.extend(out.dtype for out in outs)
            return outs

        xs = torch.randn(5, 4), torch.randn(5, 2)
        options = dict(mode='training', dtype=torch.bfloat16, run=run)
        step = profiling.Step(layers, *xs, **options)
        step()
        assert seen == [torch.bfloat16] * 2
        for layer, x in zip(layers, step.inputs):
            assert x.grad.abs().max() > 0 and layer.bias.grad.eq(5).all()


def test_profile_steps():
    x = torch.randn(1000, 1000)
    steps = {
        name: profiling.Step(layer, x, mode='training')
        for name, layer in (('one', nn.Tanh()), ('other', nn.ReLU()))
    }
    found = dict(profiling.profile_steps(steps, rounds=1))
    assert list(found) == ['one', 'other']
    for row in found.values():
        assert row['seconds'] > 0 and row['parameters'] == row['macs'] == 0
        # Output, its gradient and that of the input.
        assert row['memory'] == pytest.approx(12e6, rel=0.01)


def test_limits(monkeypatch):
    monkeypatch.setattr(profiling, 'free_memory', lambda device: 1000.0)
    limits = profiling.Limits(seconds=20.0)
    assert limits.allow('new', 64)
    limits.note('slow', 8, dict(seconds=1.0, memory=0.1))
    limits.note('large', 8, dict(seconds=0.1, memory=60.0))
    # With the square of the tokens as long as one size is known.
    assert limits.allow('slow', 16) and not limits.allow('slow', 17)
    assert limits.allow('large', 15) and not limits.allow('large', 16)
    limits.note('slow', 16, dict(seconds=4.0, memory=0.2))
    assert limits.allow('slow', 32) and not limits.allow('slow', 64)


def test_count_macs_of_parts():
    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 5) for _ in 'abc')
            self.d = nn.Sequential(nn.Linear(5, 2), nn.ReLU())

        def forward(self, x):
            # By a call, twice, and as mmseg calls its heads; c not at all.
            return self.d.forward(self.b(x) + self.a(x) + self.a(x))

    net, x = Host(), torch.randn(7, 3)
    parts = dict(net.named_modules())
    whole, macs = profiling.count_macs_of_parts(lambda: net(x), parts)
    assert whole == 7 * (3 * 15 + 10) == profiling.count_macs(lambda: net(x))
    assert macs == {
        '': whole, 'a': 210, 'b': 105, 'd': 70, 'd.0': 70, 'd.1': 0
    }  # fmt: skip
    assert 'forward' not in vars(net.a)
