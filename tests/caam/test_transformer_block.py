import pytest
import torch

pytest.importorskip('mmcv')

from mmea.caam.transformer_block import CaaMTransformerBlock


def build(**kwargs):
    torch.manual_seed(0)
    return CaaMTransformerBlock(6, 2, 9, **kwargs).double()


def test_formula():
    block = build().eval()
    x = torch.randn(1, 5, 6).double()
    tokens = block.norm1(x)
    query, key, value = block.attn.qkv_proj(tokens).chunk(3, -1)
    heads = []
    for sign in (1, -1):
        outs = []
        for h in (slice(0, 3), slice(3, 6)):
            logits = sign * query[..., h] @ key[..., h].mT / 3**0.5
            outs.append(logits.softmax(-1) @ value[..., h])
        heads.append(block.attn.out_proj(torch.cat(outs, -1)))
    want = [
        path + block.ffn.layers(block.norm2(path))
        for path in (x + heads[0], heads[1])
    ]
    got = block(x)
    torch.testing.assert_close(got, (*want, sum(want)))


def test_padding():
    block = build().eval()
    x = torch.randn(2, 7, 6).double()
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    for got, want in zip(block(x, mask), block(x[1:, :4])):
        torch.testing.assert_close(got[1:, :4], want)


def test_stochastic_depth_drops_whole_readings():
    block = build(drop_path_rate=0.5).train()
    x = torch.randn(64, 3, 6).double()
    causal, spurious, _ = block(x)
    # Where both of its parts are dropped, nothing is added.
    same = (causal == x).all(2).all(1)
    nothing = (spurious == 0).all(2).all(1)
    assert 4 < same.sum() < 32 and 4 < nothing.sum() < 32


def test_gradients():
    block = build()
    x = torch.randn(1, 3, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(block, x)
    sum(out.square().sum() for out in block(x)).backward()
    assert all(p.grad.abs().max() > 0 for p in block.parameters())
