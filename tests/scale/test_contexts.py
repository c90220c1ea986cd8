"""Layers and models on statistics that are not their own."""

import copy
import io
from functools import partial
from threading import Thread

import pytest
import torch
from torch import nn

from mmea.layers import (
    ExternalAttention2d,
    MultiheadExternalAttention,
    OffsetAttention1d,
    SAGANExternalAttention2d,
)
from mmea.ops import TokenStats
from mmea.scale import collect_token_stats, use_token_stats

PIECES = [1, 7, 3]  # columns


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def shake(layer):
    """Random parameters, biases too, and running statistics."""
    for i, tensor in enumerate([*layer.parameters(), *layer.buffers()]):
        if tensor.is_floating_point():
            tensor.data = 0.1 + randn(*tensor.shape, seed=i).abs()
    return layer.double().eval()


def external(form, **kwargs):
    return shake(ExternalAttention2d(6, num_slots=5, form=form, **kwargs))


def deployed():
    layer = external('auto', norm_layer=nn.BatchNorm2d)
    layer.switch_to_deploy()
    return layer


BLOCK = dict(norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU)
IMAGES = {
    'plain': partial(external, 'plain', norm_layer=nn.BatchNorm2d),
    'low-rank': partial(external, 'low_rank', **BLOCK),
    'unjoined': partial(external, 'auto', norm_layer=nn.Identity),
    'deployed': deployed,
    'sagan': lambda: shake(SAGANExternalAttention2d(6, num_slots=5)),
}


class Sequences(nn.Module):
    """A layer of sequences, called as one of maps."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, mask):
        tokens, mask = x.flatten(2), mask.flatten(1)
        if isinstance(self.layer, OffsetAttention1d):
            out = self.layer(tokens, mask)
        else:
            out = self.layer(tokens.mT, key_padding_mask=~mask).mT
        return out.unflatten(2, x.shape[2:])


def heads(form):
    layer = MultiheadExternalAttention(
        6,
        2,
        num_slots=5,
        expansion=2,
        batch_first=True,
        form='auto' if form == 'deployed' else form,
    )
    shake(layer)
    if form == 'deployed':
        layer.switch_to_deploy()
    return Sequences(layer)


SEQUENCES = {
    'heads-plain': partial(heads, 'plain'),
    'heads-low-rank': partial(heads, 'low_rank'),
    'heads-deployed': partial(heads, 'deployed'),
    'offset': lambda: Sequences(shake(OffsetAttention1d(6, external=True))),
}


def make_image(seed=0):
    mask = randn(2, 5, 11, seed=8) > -1
    mask[1] = False
    mask[0, :, 1:8] = False  # a piece without a valid token
    return randn(2, 6, 5, 11, seed=seed), mask


def pieces(x, mask):
    return list(zip(x.split(PIECES, 3), mask.split(PIECES, 2)))


@torch.no_grad()
@pytest.mark.parametrize('name', [*IMAGES, *SEQUENCES])
def test_pieces_equal_the_whole(name):
    layer = {**IMAGES, **SEQUENCES}[name]()
    x, mask = make_image()
    want = layer(x, mask)
    parts = pieces(x, mask)
    with collect_token_stats(layer) as stats:
        own = [layer(*part) for part in reversed(parts)]
    assert len(stats) == 1
    with use_token_stats(layer, stats):
        got = torch.cat([layer(*part) for part in parts], 3)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    # And this was to be seen.
    assert not torch.cat(own[::-1], 3)[0].allclose(want[0], rtol=1e-4)
    assert torch.equal(layer(x, mask), want)  # nothing is left behind


@torch.no_grad()
@pytest.mark.parametrize('taken', [*SEQUENCES][:3])
@pytest.mark.parametrize('given', [*SEQUENCES][:3])
def test_all_forms_of_heads_have_the_same_statistics(taken, given):
    check_forms(SEQUENCES[taken](), SEQUENCES[given]())


@torch.no_grad()
@pytest.mark.parametrize('taken', ['plain', 'low_rank', 'deployed'])
@pytest.mark.parametrize('given', ['plain', 'low_rank', 'deployed'])
def test_all_forms_have_the_same_statistics(taken, given):
    check_forms(
        *(
            deployed()
            if form == 'deployed'
            else external(form, norm_layer=nn.BatchNorm2d)
            for form in (taken, given)
        )
    )


def check_forms(first, second):
    x, mask = make_image()
    with collect_token_stats(first) as stats:
        want = first(x, mask)
    with use_token_stats(second, stats):
        got = second(x[..., :7], mask[..., :7])
    torch.testing.assert_close(got, want[..., :7], rtol=1e-12, atol=1e-12)


class Chain(nn.Module):
    """Two attentions of which one needs the other, and one called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = external('auto'), external('plain')

    def forward(self, x):
        x = self.second(self.first(x))
        return self.first(nn.functional.avg_pool2d(x, 2))


@torch.no_grad()
def test_passes_over_pieces_of_a_deep_model():
    model, x = Chain().eval(), make_image()[0][:, :, :4]
    want = model(x)
    cores = [slice(0, 2), slice(2, 8), slice(8, 10)]
    x, want = x[..., :10], model(x[..., :10])
    stats, passes = {}, 0
    while True:
        passes += 1
        new = {}
        outs = []
        for core in cores:
            # Each piece with a column of its neighbours, not to be collected.
            left = max(core.start - 2, 0)
            piece = x[..., left : core.stop]
            window = torch.zeros(4, piece.shape[3], dtype=torch.bool)
            window[:, core.start - left :] = True
            with (
                collect_token_stats(
                    model, new, window=window, normalise_by='nothing'
                ),
                use_token_stats(model, stats),
            ):
                out = model(piece)
            outs.append(out[..., (core.start - left) // 2 :])
        if not new:
            break
        assert outs[0].isnan().all()
        stats.update(new)
    assert (passes, [*stats]) == (4, ['first', 'second', 'first#2'])
    torch.testing.assert_close(torch.cat(outs, 3), want, rtol=1e-12, atol=0)


@torch.no_grad()
def test_video_merges_with_decay():
    layer = external('low_rank')
    frames = [make_image(seed)[0] for seed in range(3)]
    single = []
    for frame in frames:
        with collect_token_stats(layer) as stats:
            layer(frame)
        single.append(stats[''])
    with collect_token_stats(
        layer, decay=0.5, normalise_by='collected'
    ) as memory:
        got = [layer(frame) for frame in frames]
    want = single[0]
    for frame, out, new in zip(frames, got, single):
        want = new if new is single[0] else want.decay(0.5) + new
        with use_token_stats(layer, {'': want}):
            torch.testing.assert_close(out, layer(frame))
    torch.testing.assert_close(memory[''].to_tensor(), want.to_tensor())
    assert not got[2].allclose(layer(frames[2]))


@torch.no_grad()
def test_one_context_for_many_images():
    """Any number of images at a time, as one image of all their tokens."""
    layer = external('low_rank')
    images = torch.cat([make_image(seed)[0] for seed in range(2)])
    want = layer(torch.cat([*images], 1)[None])
    with collect_token_stats(layer, pool=True) as stats:
        layer(images[:3])
        layer(images[3:])
    with use_token_stats(layer, stats):
        got = torch.cat([*layer(images)], 1)[None]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_part_without_a_token_completes_nothing():
    layers = nn.Sequential(external('auto'), external('plain')).eval()
    x, mask = make_image()[0][:, :, :4, :9], torch.ones(2, 4, 9).bool()
    mask[..., 6:] = False

    def run(part, valid):
        for layer in layers:
            part = layer(part, valid)
        return part

    want = run(x, mask)[..., :6]
    stats, passes = {}, 0
    while True:
        passes, new, outs = passes + 1, {}, []
        for i in (0, 3, 6):
            with (
                collect_token_stats(layers, new, normalise_by='nothing'),
                use_token_stats(layers, stats),
            ):
                outs.append(run(x[..., i : i + 3], mask[..., i : i + 3]))
        if not new:
            break
        stats.update(new)
    assert passes == 3
    got = torch.cat(outs, 3)[..., :6]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_blocks_around_a_model_and_its_part():
    model, x = Chain().eval(), make_image()[0][:, :, :4]
    with collect_token_stats(model) as want:
        model(x)
    with (
        collect_token_stats(model) as whole,
        collect_token_stats(model.second) as part,
    ):
        model(x)
    assert [*whole] == [*want] == ['first', 'second', 'first#2']
    assert torch.equal(part[''].max, want['second'].max)


def test_a_host_does_not_recompute_what_is_asked():
    arch = dict(
        embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8
    )
    EAMLP = pytest.importorskip('mmea.models').EAMLP
    net = EAMLP(arch, img_size=32, token_dims=4, with_cp=True).eval()
    x = torch.randn(1, 3, 32, 32, requires_grad=True)
    with collect_token_stats(net) as stats:
        net(x)[0].sum().backward()
    assert not [name for name in stats if '#' in name]
    with use_token_stats(net, stats):
        net(x)[0].sum().backward()


@torch.no_grad()
def test_others_notice_nothing():
    layer, twin = external('auto'), external('auto')
    x, _ = make_image()
    want, seen = twin(x), []
    keys = [*layer.state_dict()]
    with collect_token_stats(layer) as stats:
        thread = Thread(target=lambda: seen.append(layer(2 * x)))
        thread.start()
        thread.join()
        assert torch.equal(twin(x), want) and not stats
        copied = copy.deepcopy(layer).state_dict()
        with pytest.raises(ZeroDivisionError), use_token_stats(layer, stats):
            layer(1 / 0)
        layer(x)
        assert [*stats] == [''] and [*copied] == keys
        apart, before = copy.deepcopy(layer), stats[''].max.clone()
        # What is saved belongs to no block either.
        torch.save(layer, io.BytesIO())
    assert torch.equal(apart(2 * x), twin(2 * x))
    assert torch.equal(stats[''].max, before)
    assert torch.equal(seen[0], twin(2 * x)) and torch.equal(layer(x), want)
    assert [*layer.state_dict()] == keys and not layer._forward_pre_hooks


def test_training_is_unaffected():
    layer, twin = external('auto'), external('auto')
    x = make_image()[0].requires_grad_()
    with collect_token_stats(layer) as stats:
        out = layer(x)
    assert not stats[''].sum.requires_grad
    for each in (layer, twin):
        each.train()(x).square().sum().backward()
    for got, want in zip(layer.parameters(), twin.parameters()):
        torch.testing.assert_close(got.grad, want.grad)
    assert out.requires_grad
    for context in (collect_token_stats, partial(use_token_stats, stats={})):
        with pytest.raises(ValueError, match='eval mode.*call eval'):
            context(layer).__enter__()
    # Nor does one that turns to training inside.
    for context in (
        collect_token_stats(layer.eval(), stats),
        use_token_stats(layer, stats),
    ):
        before = stats[''].sum.clone()
        with context, pytest.raises(ValueError, match='eval mode.*call eval'):
            layer.train()(x)
        assert torch.equal(stats[''].sum, before)
        layer.eval()


@pytest.mark.parametrize(
    ('context', 'error'),
    [
        (lambda _: collect_token_stats(nn.ReLU()), 'ReLU has no layer'),
        (
            lambda _: collect_token_stats(external('auto', over_tokens=False)),
            'no layer of external attention',
        ),
        (
            lambda m: collect_token_stats(m, window=torch.ones(2, 2)),
            r'tensor of bool \(H, W\), got Tensor \(2, 2\) of torch.float32',
        ),
        (
            lambda m: collect_token_stats(m, normalise_by='all'),
            'normalise_by must be one of own, collected, nothing, got',
        ),
        (
            lambda m: use_token_stats(m, {'layers': TokenStats.empty(2, 5)}),
            r"layers of the model, \['layer'\], got \['layers'\]",
        ),
        (
            lambda m: use_token_stats(m, {'layer': TokenStats.empty(3, 20)}),
            r"'layer' must be of 2 images, or one, and 20 slots, got \(3, 20",
        ),
        (
            lambda m: collect_token_stats(
                m, window=torch.ones(5, 11, dtype=torch.bool)
            ),
            "'layer' has a sequence of tokens",
        ),
        (
            lambda m: collect_token_stats(
                m, {'layer': TokenStats.empty(1, 20)}
            ),
            r'got \(1, 20\) and \(2, 20\)',
        ),
    ],
)
def test_refused(context, error):
    model = heads('plain')
    with pytest.raises(ValueError, match=error), context(model):
        model(*make_image())
