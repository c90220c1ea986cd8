import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmpretrain.models')

from mmea.registry import MODELS  # noqa: E402

SMALL = dict(
    type='mmea.CaaMT2TViT',
    img_size=48,
    embed_dims=8,
    num_layers=3,
    num_heads=2,
    feedforward_channels=12,
    causal_layers=2,
    t2t_cfg=dict(token_dims=4),
)


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build({**SMALL, **kwargs}).double()
    for param in model.parameters():
        nn.init.normal_(param, std=0.3)
    model.eval()  # returns None
    return model


def image(height=48, width=48, batch=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, height, width, generator=generator)
    return x.double()


def attend(attn, x, signs=(1,)):
    """Attention of a layer by its formula, once for each sign; its values."""
    if hasattr(attn, 'qkv'):
        qkv, proj = attn.qkv, attn.proj
        scale = attn.input_dims // attn.num_heads
    else:
        qkv, proj = attn.qkv_proj, attn.out_proj
        scale = attn.embed_dims // attn.num_heads
    query, key, value = (
        t.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
        for t in qkv(x).chunk(3, -1)
    )
    return [
        proj(
            ((sign * query @ key.mT / scale**0.5).softmax(-1) @ value)
            .transpose(1, 2)
            .flatten(2)
        )
        for sign in signs
    ], value


def feed_forward(layer, norm, x):
    first, last = layer.ffn.layers[0][0], layer.ffn.layers[1]
    return x + last(F.gelu(first(norm(x))))


def by_formula(model, x):
    """Causal, spurious and mix of the tokens behind the last norm."""
    tokens = model.tokens_to_token
    for i, (kernel, stride, padding) in enumerate(
        [(7, 4, 2), (3, 2, 1), (3, 2, 1)]
    ):
        grid = x.shape[2] // stride, x.shape[3] // stride
        x = F.unfold(x, kernel, padding=padding, stride=stride).mT
        if i < 2:
            layer = getattr(tokens, f'attention{i + 1}')
            (out,), value = attend(layer.attn, layer.ln1(x))
            x = feed_forward(layer, layer.ln2, out + value.squeeze(1))
            x = x.mT.unflatten(2, grid)
    x = tokens.project(x)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], 1)
    x = x + model.pos_embed
    for layer in model.encoder:
        if hasattr(layer, 'ln1'):
            (out,), _ = attend(layer.attn, layer.ln1(x))
            x = feed_forward(layer, layer.ln2, x + out)
            continue
        (a, b), _ = attend(layer.attn, layer.norm1(x), (1, -1))
        paths = [feed_forward(layer, layer.norm2, p) for p in (x + a, b)]
        x = sum(paths)
    return [model.norm(path) for path in (*paths, x)]


def test_formula():
    model = build(multi=True)
    want = [tokens[:, 0] for tokens in by_formula(model, image())]
    torch.testing.assert_close(list(model(image())), want)


def test_maps():
    model = build(multi=True, out_type='featmap')
    want = [
        tokens[:, 1:].mT.unflatten(2, (3, 3))
        for tokens in by_formula(model, image())
    ]
    got = model(image())
    torch.testing.assert_close(list(got), want)
    single = copy.deepcopy(model)
    single.multi, single.encoder[-1].gives = False, 'causal'
    torch.testing.assert_close(single(image()), got[:1])


@pytest.mark.parametrize('size', [(33, 47), (64, 80), (5, 7)])
def test_any_size(size):
    model = build(out_type='featmap')
    height, width = (-(-n // 16) for n in size)
    x = image(*size, batch=1)
    padded = F.pad(x, (0, 16 * width - size[1], 0, 16 * height - size[0]))
    (got,) = model(x)
    assert got.shape == (1, 8, height, width)
    torch.testing.assert_close((got,), model(padded))


def test_plain_and_causal_have_the_same_number_of_parameters():
    sizes = [
        sum(p.numel() for p in build(causal_layers=n).parameters())
        for n in (0, 1, 3)
    ]
    assert len(set(sizes)) == 1


def test_published_size():
    model = MODELS.build(dict(type='mmea.CaaMT2TViT'))
    kinds = [type(layer).__name__ for layer in model.encoder]
    assert kinds == ['T2TTransformerLayer'] * 3 + ['_Layer'] * 4
    assert sum(p.numel() for p in model.parameters()) == 3_998_310


def test_gradients_reach_every_parameter():
    for kwargs in (dict(), dict(multi=True)):
        model = build(out_type='raw', **kwargs)
        model.train()
        sum(out.square().sum() for out in model(image())).backward()
        assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_stochastic_depth_grows():
    model = build(drop_path_rate=0.4)
    rates = [x.ffn.dropout_layer.drop_prob for x in model.encoder]
    assert rates == pytest.approx([0, 0.2, 0.4])


def test_initialisation():
    model = MODELS.build(dict(SMALL, embed_dims=64))
    model.init_weights()
    for layer in model.encoder[1:]:
        for linear in (layer.attn.qkv_proj, layer.ffn.layers[1]):
            assert linear.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert (layer.norm1.weight == 1).all()


def test_pickle():
    model = build(multi=True)
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again(image()), model(image()))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(causal_layers=4), r'causal_layers must be in 0\.\.3'),
        (dict(causal_layers=0, multi=True), r'must be in 1\.\.3'),
        (dict(base='mmpretrain.NoSuchNet'), 'is no registered backbone'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
