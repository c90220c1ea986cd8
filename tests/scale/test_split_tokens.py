"""Parts of images in two processes give what one process gives."""

import traceback

import pytest
import torch
from torch import distributed as dist
from torch import nn

from mmea.layers import ExternalAttention2d, MultiheadExternalAttention
from mmea.ops import external_attention
from mmea.scale import split_tokens

COLUMNS = [4, 7]  # of the two processes
SLOTS = 5


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Both(nn.Module):
    """One layer after another, of maps and of sequences."""

    def __init__(self, norm, form, with_cp=False):
        super().__init__()
        self.maps = ExternalAttention2d(
            6, num_slots=SLOTS, norm_layer=norm, form=form, with_cp=with_cp
        )
        self.heads = MultiheadExternalAttention(
            6, 2, num_slots=SLOTS, batch_first=True, form=form
        )
        for i, param in enumerate(self.parameters()):
            param.data = randn(*param.shape, seed=i)
        self.double()

    def forward(self, x, mask):
        x = self.maps(x, mask)
        tokens = x.flatten(2).mT
        out = self.heads(tokens, key_padding_mask=~mask.flatten(1))
        return out.mT.unflatten(2, x.shape[2:])


#: Norm, form, what the second process holds, with_cp; training throughout.
CASES = {
    'plain': (None, 'plain', 'tokens', False),
    'low-rank': (None, 'low_rank', 'nothing valid', True),
    'frozen norm': ('frozen', 'low_rank', 'tokens', False),
    'norm of all': ('sync', 'low_rank', 'nothing valid', False),
}


def step(case, part, distributed):
    """Output and gradients of one part, or of all."""
    norm, form, second, with_cp = CASES[case]
    layer = nn.SyncBatchNorm if distributed else nn.BatchNorm2d
    model = Both(layer if norm else None, form, with_cp and distributed)
    if norm == 'frozen':
        model.maps.norm.eval()
    mask = randn(2, 3, sum(COLUMNS), seed=8) > -1
    if second == 'nothing valid':
        mask[..., COLUMNS[0] :] = False
    x = randn(2, 6, 3, sum(COLUMNS), seed=9)[..., part].requires_grad_()
    mask = mask[..., part]
    if distributed:
        with split_tokens(model):
            y = model(x, mask)
    else:
        y = model(x, mask)
    (y.sin() * 3 + y.square()).masked_fill(~mask[:, None], 0).sum().backward()
    return y.detach(), x.grad, [p.grad for p in model.parameters()]


def operator(part, group):
    """The functional, the second process without a single token."""
    tokens = randn(2, 6, 4)[..., part].requires_grad_()
    key, value = (randn(SLOTS, 6, seed=i).requires_grad_() for i in (1, 2))
    out = external_attention(tokens, key, value, process_group=group)
    out.sin().sum().backward()
    return out.detach(), tokens.grad, [key.grad, value.grad]


class Counted:
    """Numbers in each collective of torch.distributed, in order."""

    def __init__(self):
        self.calls = []
        for name, index in (('all_gather', 1), ('all_reduce', 0)):
            self.wrap(name, index)

    def wrap(self, name, index):
        function = getattr(dist, name)

        def counting(*args, **kwargs):
            self.calls.append((name, args[index].numel()))
            return function(*args, **kwargs)

        setattr(dist, name, counting)


def worker(rank, store, queue):
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            'gloo', init_method=f'file://{store}', rank=rank, world_size=2
        )
        counted = Counted()
        part = [slice(COLUMNS[0]), slice(COLUMNS[0], None)][rank]
        results = {}
        for case in CASES:
            counted.calls.clear()
            out = step(case, part, True)
            results[case] = to_lists(out), counted.calls.copy()
        counted.calls.clear()
        part = [slice(None), slice(0)][rank]
        out = operator(part, dist.group.WORLD)
        results['operator'] = to_lists(out), counted.calls.copy()
        queue.put((rank, results))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        queue.put((rank, traceback.format_exc()))
        raise


def to_lists(value):
    """Plain numbers: tensors in a queue need their sender alive."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [to_lists(v) for v in value]


@pytest.fixture(scope='module')
def results(tmp_path_factory, processes):
    queue = processes.Queue()
    store = tmp_path_factory.mktemp('split') / 'store'
    started = [
        processes.Process(target=worker, args=(rank, store, queue))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    results = dict(queue.get(timeout=120) for _ in started)
    for process in started:
        process.join(60)
    for result in results.values():
        assert not isinstance(result, str), result
    return results


def check(results, case, want):
    (first, _), (second, _) = (results[rank][case] for rank in range(2))
    tensors = [
        [torch.tensor(v, dtype=torch.float64) for v in (out, grad, *params)]
        for out, grad, params in (first, second)
    ]
    got = [torch.cat(pair, -1) for pair in list(zip(*tensors))[:2]]
    got += [a + b for a, b in list(zip(*tensors))[2:]]
    for a, b in zip(got, [*want[:2], *want[2]]):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('case', CASES)
def test_two_processes_equal_one(case, results):
    check(results, case, step(case, slice(None), False))


def test_a_process_without_tokens(results):
    check(results, 'operator', operator(slice(None), None))


@pytest.mark.parametrize('case', ['plain', 'low-rank', 'frozen norm'])
def test_collectives(case, results):
    """Of two images; the second layer has eight heads."""
    numbers = 2 * SLOTS, 2 * 8 * SLOTS
    for rank in range(2):
        assert results[rank][case][1] == [
            ('all_gather', 2 * numbers[0]),
            ('all_gather', 2 * numbers[1]),
            ('all_reduce', numbers[1]),
            ('all_reduce', numbers[0]),
        ]
