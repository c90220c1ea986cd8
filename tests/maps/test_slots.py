"""The maps of slots are those by which the layers compute their output."""

import pytest
import torch
from torch import nn

from mmea.layers import (
    CATT2d,
    EfficientAttention2d,
    ExternalAttention2d,
    MultiheadExternalAttention,
)
from mmea.maps import AttentionMaps, attention_maps


def random(layer):
    torch.manual_seed(0)
    for param in layer.parameters():
        nn.init.normal_(param, std=0.5)
    return layer.double().eval()


def make_input(*size):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def make_mask(height=5, width=7):
    mask = torch.ones(2, height, width, dtype=torch.bool)
    mask[0, :, 4:] = False
    mask[1, 3:] = False
    return mask


PUBLISHED = dict(norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU, zero_init=False)


@pytest.mark.parametrize('options', [dict(), PUBLISHED])
@pytest.mark.parametrize('over_tokens', [True, False])
@pytest.mark.parametrize('mask', [None, make_mask()], ids=['whole', 'padded'])
def test_external_attention_in_all_forms(options, over_tokens, mask):
    x = make_input(2, 6, 5, 7)
    found = {}
    for form in ('plain', 'low_rank', 'deployed'):
        layer = ExternalAttention2d(
            6,
            num_slots=4,
            channels=3,
            over_tokens=over_tokens,
            form='plain' if form == 'plain' else 'low_rank',
            **options,
        )
        random(layer)
        value = layer.value_memory.detach()
        attend, project = layer.attend(x, mask), layer.out_proj
        if form == 'deployed':
            layer.switch_to_deploy()
        (seen,) = attention_maps(layer, x, mask)['']
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(1), 0)
        out = project(torch.einsum('sc,bshw->bchw', value, seen.attention))
        want = attend
        if form == 'low_rank':
            want = layer._attend_low_rank(x, mask)
        valid = torch.ones(2, 5, 7, dtype=torch.bool) if mask is None else mask
        for b in range(2):
            torch.testing.assert_close(
                out[b][:, valid[b]], want[b][:, valid[b]], rtol=0, atol=1e-12
            )
        found[form] = seen
        assert (seen.mask is None) == (mask is None)
    for form in ('low_rank', 'deployed'):
        for name in ('attention', 'token_softmax', 'shares'):
            a, b = (getattr(found[f], name) for f in (form, 'plain'))
            if a is None:
                assert not over_tokens
                assert b is None
            else:
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(seen.shares.sum(1), ones, rtol=0, atol=1e-6)
    if over_tokens:
        sums = seen.token_softmax.sum((2, 3))
        torch.testing.assert_close(sums, ones[:, None].expand(2, 4))


@pytest.mark.parametrize('batch_first', [True, False])
def test_multihead_on_a_grid_with_a_class_token(batch_first):
    layer = random(
        MultiheadExternalAttention(
            6, 2, num_slots=4, expansion=2, batch_first=batch_first
        )
    )
    tokens, place = make_input(2, 16, 6), make_input(2, 16, 6) / 2
    ignored = torch.zeros(2, 16, dtype=torch.bool)
    ignored[1, 9:] = True
    turn = (lambda t: t) if batch_first else (lambda t: t.transpose(0, 1))
    call = dict(query_pos=turn(place), key_padding_mask=ignored)

    def forward(x):
        return layer(turn(x), identity=torch.zeros_like(turn(x)), **call)

    (whole,) = attention_maps(layer, tokens, forward=forward)['']
    assert whole.attention.shape == (2, 4, 4, 4, 4)
    attn = whole.attention.flatten(3)  # (B, h, S, N)
    out = torch.einsum('bhsn,sd->bnhd', attn, layer.value_memory)
    out = layer.out_proj((out + layer.value_bias).flatten(2))
    torch.testing.assert_close(turn(forward(tokens)), out)
    assert whole.mask.flatten(1).equal(~ignored)
    assert not whole.token_softmax.flatten(3)[1, ..., 9:].any()
    # An image of 12 x 20 at stride 4 and a class token: 1 + 3 x 5.
    (seen,) = attention_maps(layer, tokens, forward=forward, grid=(12, 20))['']
    assert seen.attention.shape == (2, 4, 4, 3, 5)
    assert torch.equal(seen.attention.flatten(3), attn[..., 1:])
    (other,) = attention_maps(layer, tokens, forward=forward, grid=(7, 9))['']
    assert other.note == 'its 16 tokens fill no known grid'
    assert torch.equal(other.attention[..., 0, :], attn)
    layer.switch_to_deploy()
    (folded,) = attention_maps(layer, tokens, forward=forward)['']
    torch.testing.assert_close(folded.attention, whole.attention)
    assert folded.keys.shape == (4, 4, 6)


def test_efficient_attention_is_its_slots():
    layer = random(EfficientAttention2d(6, key_channels=4, num_heads=2))
    x, mask = make_input(2, 6, 5, 7), make_mask()
    layer.residual = False
    (seen,) = attention_maps(layer, x, mask)['']
    value = layer.value_proj(x * mask[:, None]).flatten(2)
    value = value.unflatten(1, (2, 3))
    query, key = (
        maps.flatten(2).unflatten(1, (2, 2))
        for maps in (seen.attention * 2, seen.token_softmax)
    )
    out = torch.einsum('bhcn,bhdn,bhdm->bhcm', value, key, query)
    out = layer.out_proj(out.flatten(1, 2).unflatten(2, (5, 7)))
    torch.testing.assert_close(
        out.movedim(1, 3)[mask], layer(x, mask).movedim(1, 3)[mask]
    )
    torch.testing.assert_close(
        seen.shares.sum(1), torch.ones(2, dtype=torch.float64)
    )


def test_words_of_the_dictionary():
    layer = random(CATT2d(6, dictionary_size=9, num_heads=2))
    x, mask = make_input(2, 6, 5, 7), make_mask()
    (seen,) = [c for n, c in attention_maps(layer, x, mask).items() if not n][
        0
    ]
    path, tokens = layer.layer.cross_path, (x * mask[:, None]).flatten(2)
    query = path.query_proj(tokens.transpose(1, 2)).unflatten(2, (2, 3))
    key = path.key_proj(layer.dictionary[0]).unflatten(1, (2, 3))
    logits = torch.einsum('bnhd,khd->bhkn', query, key) / 3**0.5
    want = logits.softmax(2).mean(1) * mask.flatten(1)[:, None]
    torch.testing.assert_close(seen.attention.flatten(2), want)
    assert torch.equal(seen.keys, layer.dictionary[0])


def test_shares_similarities_and_the_dead():
    attention = torch.zeros(1, 3, 2, 2)
    attention[0, 0] = torch.tensor([[1, 1], [0.5, 0.0]])
    attention[0, 1] = torch.tensor([[0, 0], [0.48, 0.0]])
    attention[0, 2] = torch.tensor([[0, 0], [0.02, 0.0]])
    mask = torch.tensor([[[True, True], [True, False]]])
    keys = torch.tensor([[3.0, 0], [-2, 0], [1, 1]])
    seen = AttentionMaps('X', attention, keys=keys, mask=mask)
    want = torch.tensor([[2.5, 0.48, 0.02]]) / 3
    torch.testing.assert_close(seen.shares, want)
    # An even share is 1 / 3: slot 2 has two per cent of it.
    assert seen.dead().tolist() == [[False, False, False]]
    assert seen.dead(0.03).tolist() == [[False, False, True]]
    assert seen.dead(0.5).tolist() == [[False, True, True]]
    root = 0.5**0.5
    torch.testing.assert_close(
        seen.key_similarity,
        torch.tensor([[1, -1, root], [-1, 1, -root], [root, -root, 1]]),
    )
    torch.testing.assert_close(
        seen.map_similarity[0, 0], torch.tensor([1, 1 / 3, 1 / 3])
    )
    with pytest.raises(ValueError, match='CBAMGate2d has no slots'):
        AttentionMaps('CBAMGate2d').slots  # noqa: B018
