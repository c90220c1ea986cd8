import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from mmea.ops import external_attention, packed_external_attention


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def make(lengths, channels=3, slots=4, dtype=torch.float64):
    """Return tokens, both memories and the offsets."""
    tokens = randn(sum(lengths), channels, dtype=dtype)
    memories = [randn(slots, channels, seed=i, dtype=dtype) for i in (1, 2)]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return tokens, *memories, offsets


def masked(tokens, key, value, lengths, **options):
    """By padding and a mask, and packed again."""
    batch = pad_sequence(tokens.split(lengths), batch_first=True).mT
    mask = torch.arange(batch.shape[2]) < torch.tensor(lengths)[:, None]
    out = external_attention(batch, key, value, mask=mask, **options)
    return out.mT[mask]


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    slots=st.integers(1, 5),
    eps=st.sampled_from([1e-9, 0.0, 0.3]),
    scale=st.sampled_from([1, 100]),
    kind=st.sampled_from([torch.int32, torch.int64]),
)
def test_equals_the_mask(lengths, slots, eps, scale, kind):
    """Output and gradients, empty images and a single one among them."""
    tokens, key, value, offsets = make(lengths, slots=slots)
    leaves = [t.requires_grad_() for t in (tokens, key * scale, value)]
    results = []
    for out in (
        packed_external_attention(
            leaves[0], offsets.to(kind), *leaves[1:], eps=eps
        ),
        masked(*leaves, lengths, eps=eps),
    ):
        weight = randn(*out.shape, seed=5)
        grads = torch.autograd.grad((out * weight).sum(), leaves)
        results.append([out, *grads])
    for got, want in zip(*results):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_derivatives():
    tokens, key, value, offsets = make([2, 0, 3])
    leaves = [t.requires_grad_() for t in (tokens, key, value)]

    def function(tokens, *memories):
        return packed_external_attention(tokens, offsets, *memories)

    torch.autograd.gradcheck(function, leaves)
    torch.autograd.gradgradcheck(function, leaves)


def test_images_do_not_meet():
    tokens, key, value, offsets = make([3, 4])
    want = packed_external_attention(tokens, offsets, key, value)
    tokens[3:] = float('nan')
    got = packed_external_attention(tokens, offsets, key, value)
    assert torch.equal(got[:3], want[:3])


def test_many_tokens_in_float32():
    lengths = [20000, 1, 30000]
    tokens, key, value, offsets = make(lengths, dtype=torch.float32)
    want = masked(*(t.double() for t in (tokens, key, value)), lengths)
    got = packed_external_attention(tokens, offsets, key, value)
    torch.testing.assert_close(got, want.float())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_under_autocast(dtype):
    tokens, key, value, offsets = make([30, 50], 16, dtype=torch.float32)
    want = packed_external_attention(tokens, offsets, key, value)
    with torch.autocast('cpu', torch.bfloat16):
        got = packed_external_attention(tokens.to(dtype), offsets, key, value)
    assert got.dtype == torch.bfloat16
    assert (got - want).norm() < 0.03 * want.norm()


def test_nested_tensors():
    tokens, key, value, offsets = make([3, 5])
    nested = torch.nested.nested_tensor(
        list(tokens.split([3, 5])), layout=torch.jagged
    )
    torch.testing.assert_close(
        packed_external_attention(
            nested.values(), nested.offsets(), key, value
        ),
        packed_external_attention(tokens, offsets, key, value),
    )


def test_compiles_to_one_graph():
    tokens, key, value, offsets = make([3, 0, 5])
    torch._dynamo.reset()
    compiled = torch.compile(
        packed_external_attention, fullgraph=True, backend='aot_eager'
    )
    args = tokens, offsets, key, value
    torch.testing.assert_close(
        compiled(*args), packed_external_attention(*args)
    )


@pytest.mark.parametrize(
    ('offsets', 'message'),
    [
        ([0, 3, 6], r'from 0 to 7, .*got \[0, 3, 6\]'),
        ([1, 7], 'from 0 to 7'),
        ([0, 5, 3, 7], 'ascend'),
        ([0], r'integers \(B \+ 1\)'),
        ([[0, 7]], r'integers \(B \+ 1\)'),
        ([0.0, 7.0], 'integers.*float32'),
        # Not seen to descend, and on another device than the tokens.
        (torch.tensor([0, 5, 3, 7], dtype=torch.uint8), 'integers.*uint8'),
        (torch.tensor([0, 7], device='meta'), 'on cpu, .* on meta'),
    ],
)
def test_wrong_offsets_are_refused(offsets, message):
    tokens, key, value, _ = make([7])
    with pytest.raises(ValueError, match=message):
        packed_external_attention(tokens, torch.as_tensor(offsets), key, value)


def test_other_arguments_are_refused():
    tokens, key, value, offsets = make([3, 4])
    with pytest.raises(ValueError, match='offsets must be a tensor, got list'):
        packed_external_attention(tokens, offsets.tolist(), key, value)
    with pytest.raises(ValueError, match=r'tokens must be \(T, C\)'):
        packed_external_attention(tokens[None], offsets, key, value)
