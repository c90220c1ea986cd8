"""How torch sees the kernels: as operators, in graphs, by their cost."""

from functools import partial

import pytest
import torch

from mmea.ops import (
    TokenStats,
    find_kernel_obstacle,
    kernel_block,
    low_memory_block,
    low_rank_block,
)
from mmea.ops.external_attention_kernels import block
from mmea.profiling import count_macs

from .test_inference import check_close, randn


def make(norm=True, masked=False):
    """Tokens, memories, bias, weight, mask."""
    return (
        randn(2, 24, 33, seed=0),
        randn(5, 24, seed=1) / 5,
        randn(5, 24, seed=2),
        randn(24, seed=3),
        randn(24, seed=4) + 2 if norm else None,
        randn(2, 33, seed=5) > 0 if masked else None,
    )


def run(function, inputs):
    leaves = [t.clone().requires_grad_() for t in inputs if t is not None]
    out, stats = function(*leaves)
    grads = torch.autograd.grad(out.sin().sum(), leaves)
    return [out.detach(), *stats, *grads]


def block_of(function):
    return lambda *inputs: function(*inputs, relu=True)


def check_opcheck(norm, masked):
    *inputs, mask = make(norm, masked)
    ops, dtype = torch.ops.mmea, torch.float32
    torch.library.opcheck(
        ops.external_attention.default,
        (*inputs[:4], mask, 1e-9, True, True, dtype),
    )
    inputs = [t if t is None else t.requires_grad_() for t in inputs]
    torch.library.opcheck(
        ops.external_attention_train.default,
        (*inputs, mask, 1e-9, 1e-5, True, norm, dtype),
    )


@pytest.mark.parametrize('norm', [False, True])
def test_opcheck(interpreter, norm):
    interpreter(check_opcheck, norm, norm)


def check_compile():
    inputs = make()[:5]
    call = block_of(kernel_block)
    compiled = torch.compile(call, fullgraph=True, backend='aot_eager')
    want = run(call, inputs)
    for got, w in zip(run(compiled, inputs), want):
        assert torch.equal(got, w)
    for got, w in zip(run(block_of(low_rank_block), inputs), want):
        torch.testing.assert_close(got, w, rtol=1e-4, atol=1e-4)


def test_compile(interpreter):
    interpreter(check_compile)


def check_second_derivative():
    inputs = [t.requires_grad_() for t in make()[:5]]
    out, _ = kernel_block(*inputs)
    with pytest.raises(RuntimeError, match="second.*form='low_rank'"):
        torch.autograd.grad(out.sum(), inputs, create_graph=True)


def test_second_derivative_is_an_error(interpreter):
    interpreter(check_second_derivative)


def train(form, inputs):
    out, _ = form(*[t.requires_grad_() for t in inputs if t is not None])
    out.sum().backward()


def check_macs():
    for norm in (False, True):
        inputs = make(norm)[:5]
        kernels = count_macs(partial(train, kernel_block, inputs))
        # 6 products of S x C, with a norm 2 of S x S, of 66 tokens; in torch
        # the statistics are some of S x S x C more.
        assert kernels == 66 * 5 * (6 * 24 + norm * 2 * 5)
        plain = count_macs(partial(train, low_memory_block, inputs))
        assert 0 <= plain - kernels <= norm * 4 * 5 * 5 * 24
    with torch.no_grad():
        inputs = make(norm=False)[:4]
        assert count_macs(lambda: kernel_block(*inputs)) == 66 * 5 * 2 * 24


def test_cost(interpreter):
    interpreter(check_macs)


class Export(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, value in zip(('key', 'value', 'bias'), make()[1:4]):
            self.register_buffer(name, value)

    def forward(self, x):
        return torch.ops.mmea.external_attention(
            x, self.key, self.value, self.bias, None, 1e-9, True, True, x.dtype
        )


@pytest.mark.parametrize('layout', [torch.clone, lambda x: x.mT.clone().mT])
def test_export(layout):
    """A graph with the operator runs on a CPU too, in the low-rank form."""
    sizes = {0: torch.export.Dim('batch'), 2: torch.export.Dim('tokens')}
    program = torch.export.export(
        Export(), (make()[0],), dynamic_shapes=(sizes,)
    )
    assert 'mmea.external_attention' in str(program.graph)
    x = layout(randn(3, 24, 50, seed=7))
    got = program.module()(x)
    assert got.stride() == x.stride()
    want, _ = low_rank_block(x, *make()[1:4], relu=True)
    check_close(got, want.double(), 1e-6)


def test_obstacles(monkeypatch):
    def find(x, slots=64, **options):
        return find_kernel_obstacle(x, slots, **options)

    class OnGPU:
        """A tensor of a machine with a GPU."""

        is_cuda, is_meta, is_cpu = True, False, False
        device = torch.device('cuda')

        def __init__(self, dtype=torch.float32, numel=1):
            self.dtype, self.numel = dtype, lambda: numel

    monkeypatch.setattr(block, 'HAS_TRITON', True)
    monkeypatch.setattr(torch, 'get_autocast_dtype', lambda _: torch.float16)
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda _: False)
    assert find(OnGPU(), 128) is None
    assert find(OnGPU(torch.bfloat16)) is None
    stats = TokenStats.empty(1, 64)
    for x, options, reason in (
        (torch.ones(1, 2, 3), {}, 'on cpu, not on a CUDA GPU'),
        (torch.ones(1, 2, 3, device='meta'), {}, 'on meta'),
        (OnGPU(torch.float64), {}, 'float64'),
        (OnGPU(), dict(slots=129), '129 slots are more than 128'),
        (OnGPU(numel=0), {}, 'empty'),
        (OnGPU(), dict(over_tokens=False), 'over_tokens=False'),
        (OnGPU(), dict(stats=stats), 'statistics'),
        (OnGPU(), dict(group=object()), 'synchronised'),
    ):
        assert reason in find(x, **options)
    with torch.autograd.forward_ad.dual_level():
        assert 'forward mode' in find(OnGPU())
    monkeypatch.setattr(
        torch.cuda, 'get_device_capability', lambda device: (9, 0)
    )
    # None yet: whoever adds one has run benchmarks.gpu_check there.
    assert not block.CONFIRMED
    assert 'confirmed' in find(OnGPU(), confirmed=True)
    monkeypatch.setattr(block, 'CONFIRMED', {(8, 0)})
    assert 'confirmed' in find(OnGPU(), confirmed=True)
    monkeypatch.setattr(block, 'CONFIRMED', {(9, 0)})
    assert find(OnGPU(), confirmed=True) is None
    monkeypatch.setattr(block, 'HAS_TRITON', False)
    assert 'triton' in find(OnGPU())


def test_an_obstacle_is_an_error():
    with pytest.raises(ValueError, match='on cpu, not on a CUDA GPU'):
        kernel_block(*make()[:5])
