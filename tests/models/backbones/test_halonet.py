import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmea.models import HaloNet
from tests.layers.test_halo_attention2d import naive as naive_attention

# In millions, as reported.
PARAMETERS = {
    'H0': 5.5,
    'H1': 8.1,
    'H2': 9.4,
    'H3': 11.8,
    'H4': 19.1,
    'H5': 30.7,
    'H6': 43.4,
    'H7': 67.4,
}


def build(**kwargs):
    torch.manual_seed(0)
    return HaloNet(**dict(dict(base_channels=8), **kwargs))


def image(batch=1, height=45, width=67):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator)


def randomise(model):
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.3)
            if name.endswith('running_var'):
                tensor.abs_().add_(0.5)


def test_a_block_is_the_formula():
    """The first of stage C3 of H5, whose values are 2.5 times as wide."""
    model = build(arch='H5').double().eval()
    randomise(model)
    block = model.layer2[0]
    x = torch.randn(2, 16, 3, 15, dtype=torch.float64)
    y = F.silu(block.bn1(F.conv2d(x, block.conv1.weight)))
    assert y.shape[1] == 16
    y = F.silu(block.bn2(naive_attention(block.conv2, y)))
    assert y.shape[1:] == (40, 2, 8)
    y = block.bn3(F.conv2d(y, block.conv3.weight))
    conv, norm = block.downsample
    y = y + norm(F.conv2d(x, conv.weight, stride=2))
    torch.testing.assert_close(block(x), F.silu(y))


@pytest.mark.parametrize('arch', ['H0', 'H4', 'H5'])
@pytest.mark.parametrize('from_stage', ['C2', 'C4'])
def test_learns(arch, from_stage):
    """Odd sizes, one image, every parameter."""
    model = build(arch=arch, from_stage=from_stage).train()
    model.init_weights()
    randomise(model)
    outs = model(image())
    ratio = {'H0': 0.5, 'H4': 3, 'H5': 2}[arch]
    sizes = [(12, 17), (6, 9), (3, 5), (2, 3)]
    for i, (out, size) in enumerate(zip(outs, sizes, strict=True)):
        assert out.shape == (1, int(8 * 2**i * ratio), *size)
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    for key, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), key
        assert param.grad.abs().max() > 0, key


def test_stages_before_are_convolutions():
    model = build(from_stage='C4')
    kinds = [
        {type(block.conv2).__name__ for block in getattr(model, name)}
        for name in model.res_layers
    ]
    assert kinds == 2 * [{'Conv2d'}] + 2 * [{'HaloAttention2d'}]
    assert model.layer2[0].conv2.stride == (2, 2)
    heads = [b.conv2.num_heads for b in (model.layer3[0], model.layer4[0])]
    assert heads == [8, 8]


def test_attention_takes_more_arguments():
    model = build(attention=dict(masked=False, halo_size=1))
    assert not model.layer1[0].conv2.masked
    assert model.layer1[0].conv2.halo_size == 1
    assert build().layer1[0].conv2.masked
    assert build().layer1[0].conv2.num_heads == 4


def test_blocks_start_as_their_shortcuts():
    model = build().eval()
    model.init_weights()
    for block in model.layer1:
        assert block.bn3.weight.eq(0).all()
        # timm's initialisation of the layer, not Kaiming.
        std = block.conv2.query_proj.weight.std().item()
        assert std == pytest.approx(8**-0.5, rel=0.3)
    x = torch.randn(1, 4, 5, 7)
    torch.testing.assert_close(model.layer1[1](x), F.silu(x))


@pytest.mark.parametrize('frozen', [-1, 0, 2])
def test_frozen_stages(frozen):
    model = build(frozen_stages=frozen, norm_eval=True).train()
    for i, name in enumerate(['conv1', *model.res_layers]):
        stage = getattr(model, name)
        assert all(p.requires_grad == (i > frozen) for p in stage.parameters())
        assert stage.training == (i > frozen)
    assert not model.layer4[0].bn2.training
    assert build().train().layer4[0].bn2.training


def test_with_cp_changes_nothing():
    grads = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp).double().eval()
        randomise(model)
        sum((out**2).mean() for out in model(image().double())).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_out_indices_and_the_final_convolution():
    model = build(arch='H3', out_indices=(1, 3), final_conv=True).eval()
    randomise(model)
    plain = build(arch='H3').eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    want, got = plain(image()), model(image())
    assert torch.equal(got[0], want[1])
    conv, norm, _ = model.final
    torch.testing.assert_close(
        got[1], F.silu(norm(F.conv2d(want[3], conv.weight)))
    )
    assert got[1].shape[1] == 1024
    assert build(arch='H0', final_conv=True).final is None


@pytest.mark.parametrize('arch', PARAMETERS)
def test_published_parameter_counts(arch):
    with torch.device('meta'):
        model = HaloNet(arch, final_conv=True)
    last = model.layer4[-1].bn3 if model.final is None else model.final[1]
    count = sum(p.numel() for p in model.parameters())
    count += last.num_features * 1000 + 1000  # the classifier
    assert count / 1e6 == pytest.approx(PARAMETERS[arch], rel=0.005)


def test_errors():
    with pytest.raises(ValueError, match="one of H0.*H7, got arch='H8'"):
        build(arch='H8')
    for channels in (0, 12, 8.0, True):
        with pytest.raises(ValueError, match=f'base_channels={channels}'):
            build(base_channels=channels)
    with pytest.raises(ValueError, match="C5, got from_stage='layer1'"):
        build(from_stage='layer1')
    for indices in ((), (0, 4), (-1,)):
        with pytest.raises(ValueError, match='out_indices must list stages'):
            build(out_indices=indices)
    with pytest.raises(TypeError, match='attention.halo is no argument'):
        build(attention=dict(halo=1))
