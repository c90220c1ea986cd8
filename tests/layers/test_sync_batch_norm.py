"""Synchronised batch norm in the low-rank form, without a GPU or DDP."""

import copy
import traceback

import pytest
import torch
from torch import distributed as dist
from torch import nn

from mmea.layers import ExternalAttention2d
from mmea.ops import (
    external_attention_block,
    low_memory_block,
    low_rank_block,
)

SHARES = dict(even=[2, 2], uneven=[3, 1])


def make(norm):
    torch.manual_seed(0)
    layer = ExternalAttention2d(
        6,
        num_slots=5,
        norm_layer=norm,
        act_layer=nn.ReLU,
        form='low_rank',
    ).double()
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    return layer


def make_batch(mask_kind):
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(
        2, 4, 6, 5, 7, generator=generator, dtype=torch.float64
    )
    mask = None
    if mask_kind != 'none':
        mask = torch.rand(4, 5, 7, generator=generator) > 0.4
        if mask_kind == 'empty':  # nothing valid on the last process
            mask[1:] = False
    return x, mask, weight


def step(layer, x, mask, weight):
    """Two steps; the second sees what the first did to the statistics."""
    for _ in range(2):
        layer.zero_grad()
        x = x.detach().requires_grad_()
        y = layer(x, mask)
        (y * weight).sum().backward()
    return y.detach(), x.grad


def worker(rank, share, mask_kind, with_cp, store, queue):
    """One process's part; puts what it computed, or its error, in queue."""
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            'gloo', init_method=f'file://{store}', rank=rank, world_size=2
        )
        start = sum(share[:rank])
        part = slice(start, start + share[rank])
        x, mask, weight = make_batch(mask_kind)
        mask = None if mask is None else mask[part]
        layer = make(nn.SyncBatchNorm)
        layer.with_cp = with_cp
        y, grad = step(layer, x[part], mask, weight[part])
        grads = []
        for param in layer.parameters():
            dist.all_reduce(param.grad)  # what DDP does, by hand
            grads.append(param.grad)
        ops = [run_op(op, x[part], mask) for op in OPS]
        result = y, grad, grads, list(layer.buffers()), ops
        queue.put((rank, to_lists(result)))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        queue.put((rank, traceback.format_exc()))
        raise


OPS = [external_attention_block, low_rank_block, low_memory_block]


def run_op(op, x, mask):
    """Every form of the operation, with gradients through the sums."""
    generator = torch.Generator().manual_seed(2)
    leaves = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in [(5, 6), (5, 6), (6,), (6,)]
    ]
    leaves = [x.flatten(2).clone(), *leaves]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    out, stats = op(
        *leaves,
        mask=None if mask is None else mask.flatten(1),
        group=dist.group.WORLD if dist.is_initialized() else None,
    )
    # The sine gives every image a weight of its own.
    (out.sin() * 3 + out.square()).sum().backward()
    grads = [leaf.grad for leaf in leaves]
    if dist.is_initialized():
        for grad in grads[1:]:
            dist.all_reduce(grad)
    return [out.detach(), *stats, *grads]


def to_lists(value):
    """Plain numbers: tensors in a queue need their sender alive."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [to_lists(v) for v in value]


def check(got, want):
    got = torch.tensor(got, dtype=torch.float64)
    torch.testing.assert_close(
        got, want.detach().double(), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ('share', 'mask_kind', 'with_cp'),
    [
        ('even', 'none', False),
        ('uneven', 'ragged', False),
        ('uneven', 'empty', True),
    ],
)
def test_two_processes_equal_one(
    share, mask_kind, with_cp, tmp_path, processes
):
    queue = processes.Queue()
    started = [
        processes.Process(
            target=worker,
            args=(
                rank,
                SHARES[share],
                mask_kind,
                with_cp,
                tmp_path / 'store',
                queue,
            ),
        )
        for rank in range(2)
    ]
    for process in started:
        process.start()
    results = dict(queue.get(timeout=120) for _ in started)
    for process in started:
        process.join(60)
    for result in results.values():
        assert not isinstance(result, str), result

    x, mask, weight = make_batch(mask_kind)
    layer = make(nn.BatchNorm2d)
    y, grad = step(layer, x, mask, weight)
    check(results[0][0] + results[1][0], y)
    check(results[0][1] + results[1][1], grad)
    for rank in range(2):
        for got, param in zip(results[rank][2], layer.parameters()):
            check(got, param.grad)
        for got, buffer in zip(results[rank][3], layer.buffers()):
            check(got, buffer)
    for i, op in enumerate(OPS):
        want = run_op(op, x, mask)
        first, second = results[0][4][i], results[1][4][i]
        for k in (0, 4):  # output and the tokens' gradient, per image
            check(first[k] + second[k], want[k])
        for k in (1, 2, 3, 5, 6, 7, 8):
            check(first[k], want[k])
            check(second[k], want[k])


def test_one_process_is_a_batch_norm():
    plain, sync = make(nn.BatchNorm2d), make(nn.SyncBatchNorm)
    sync.load_state_dict(copy.deepcopy(plain.state_dict()))
    batch = make_batch('ragged')
    for got, want in zip(step(sync, *batch), step(plain, *batch)):
        assert torch.equal(got, want)
