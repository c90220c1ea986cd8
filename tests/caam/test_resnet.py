import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('mmcv')

from mmea.caam import CaaMResNet
from mmea.caam.block import CaaMBlock
from mmea.convert import convert
from mmea.models.padding_mask import note_sizes
from mmea.registry import MODELS

SMALL = dict(base_channels=4)


def build(**kwargs) -> CaaMResNet:
    torch.manual_seed(0)
    net = MODELS.build(dict(type='mmea.CaaMResNet', **SMALL, **kwargs))
    for module in net.modules():  # no gate at its start
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.double()


def naive(net: CaaMResNet, x: torch.Tensor, split: tuple) -> dict:
    """The network from its state, in evaluation mode.

    ``split`` is stage and place of the split; returns the causal maps of
    the stages under their numbers, and the last three maps.
    """
    state = net.state_dict()

    def norm(x, name):
        return F.batch_norm(
            x,
            *(state[f'{name}.running_{kind}'] for kind in ('mean', 'var')),
            state[f'{name}.weight'],
            state[f'{name}.bias'],
        )

    def part(x, name):
        gate = net.get_submodule(f'{name}.pair.gate')(x)
        return gate, x - gate

    maps = {}
    x = norm(F.conv2d(x, state['conv1.weight'], None, 2, 3), 'bn1').relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for i in range(len(getattr(net, f'layer{stage}'))):
            name = f'layer{stage}.{i}'
            stride = 2 if stage > 1 and i == 0 else 1

            def conv(x, a, b, name=name, stride=stride):
                x = F.conv2d(x, state[f'{name}.conv1.weight'], None, stride, 1)
                x = norm(x, f'{name}.bn{a}').relu()
                x = F.conv2d(x, state[f'{name}.conv2.weight'], None, 1, 1)
                return norm(x, f'{name}.bn{b}')

            def skip(x, name=name, stride=stride):
                if f'{name}.downsample.0.weight' not in state:
                    return x
                x = F.conv2d(x, state[f'{name}.downsample.0.weight'], None, 2)
                return norm(x, f'{name}.downsample.1')

            if isinstance(x, tuple):
                causal, spurious = part(
                    conv(x[0], 1, 2) + conv(x[1], 3, 4), name
                )
                causal, spurious = causal + skip(x[0]), spurious + skip(x[1])
                x = causal, spurious, causal + spurious
                x = tuple(m.relu() for m in x)
            elif (stage, i) == split:
                out = conv(x, 1, 2)
                causal, spurious = part(out, name)
                x = causal + skip(x), spurious, out + skip(x)
                x = tuple(m.relu() for m in x)
            else:
                x = (part(conv(x, 1, 2), name)[0] + skip(x)).relu()
        maps[stage] = x[0] if isinstance(x, tuple) else x
        maps['last'] = x
    return maps


@pytest.mark.parametrize(
    'depth, split_stage, size',
    [
        (18, 1, (2, 3, 33, 47)),
        (18, 3, (1, 3, 40, 35)),
        (18, 4, (2, 3, 32, 32)),
        (34, 2, (1, 3, 37, 33)),
    ],
)
def test_whole_net(depth, split_stage, size):
    net = build(depth=depth, split_stage=split_stage, multi=True).eval()
    x = torch.randn(size).double()
    want = naive(net, x, (split_stage, 1))
    for got, map_ in zip(net(x), want['last'], strict=True):
        torch.testing.assert_close(got, map_)
    dense = build(
        depth=depth, split_stage=split_stage, out_indices=(1, 3, 0, 2)
    ).eval()
    dense.load_state_dict(net.state_dict())
    for i, got in enumerate(dense(x)):
        torch.testing.assert_close(got, want[i + 1])
        assert got.shape[1:] == (
            4 * 2**i,
            *(-(-side // (4 * 2**i)) for side in size[2:]),
        )


@pytest.mark.parametrize('multi', [False, True])
def test_every_parameter_gets_a_gradient(multi):
    net = build(split_stage=2, out_indices=(2,), multi=multi)
    assert not hasattr(net, 'layer4')
    outs = net(torch.randn(2, 3, 33, 37).double())
    sum(out.square().sum() for out in outs).backward()
    for name, param in net.named_parameters():
        # A convolution before a norm that has one token only would be dead.
        assert param.grad is not None and param.grad.abs().max() > 0, name


@pytest.mark.parametrize('paths', ['one', 'split', 'two'])
def test_gradients_of_a_block(paths):
    torch.manual_seed(0)
    block = CaaMBlock(3, 4, stride=2, paths=paths).double().eval()
    nn.init.normal_(block.pair.gate.token_norm.weight)
    x = torch.rand(1, 6, 5, 4).double().requires_grad_()

    def run(x):
        return block(x.chunk(2, 1) if paths == 'two' else x[:, :3])

    assert torch.autograd.gradcheck(run, x)


def test_initialisation_and_what_a_host_does_to_it():
    net = MODELS.build(
        dict(
            type='mmea.CaaMResNet',
            split_stage=1,
            base_channels=16,
            init_cfg=[
                dict(type='Constant', val=3, layer=['Conv2d', 'BatchNorm2d'])
            ],
        )
    )
    # Published: variance 2 / fan-out.
    std = net.layer4[1].conv2.weight.std().item()
    assert std == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    net.init_weights()
    assert net.layer4[1].conv2.weight.eq(3).all()  # init_cfg is obeyed
    for block in [m for m in net.modules() if isinstance(m, CaaMBlock)]:
        gate = block.pair.gate
        assert gate.token_norm.weight.eq(0).all()
        assert not gate.token_conv.weight.eq(3).any()


def test_a_second_call_keeps_what_was_loaded(tmp_path):
    state = {n: torch.rand_like(p) for n, p in build().named_parameters()}
    path = str(tmp_path / 'net.pth')
    torch.save(dict(state_dict=state), path)
    net = build(init_cfg=dict(type='Pretrained', checkpoint=path))
    for _ in range(2):
        net.init_weights()
        for name, value in state.items():
            assert torch.equal(net.state_dict()[name], value), name


def test_weights_of_a_plain_resnet_load():
    resnet = pytest.importorskip('mmpretrain.models').ResNet
    plain = resnet(18, base_channels=4, stem_channels=4)
    net = build()
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all('.pair.' in n or '.bn3.' in n or '.bn4.' in n for n in missing)
    torch.testing.assert_close(
        net.layer3[1].conv2.weight.float(), plain.layer3[1].conv2.weight
    )


def test_published_names():
    net = build(split_stage=1)
    names = {
        'channel_fc1': 'ChannelGate.mlp.1',
        'channel_fc2': 'ChannelGate.mlp.3',
        'token_conv': 'SpatialGate.spatial.conv',
        'token_norm': 'SpatialGate.spatial.bn',
    }
    old = {}
    for name, value in net.state_dict().items():
        head, gate, tail = name.partition('pair.gate.')
        if gate:
            part, _, leaf = tail.partition('.')
            name = f'{head}cbam.{names[part]}.{leaf}'
        old[name] = value
    assert 'layer4.1.cbam.SpatialGate.spatial.bn.running_var' in old
    assert 'layer2.0.downsample.1.weight' in old and 'layer1.1.bn2.bias' in old
    got = convert(old, 'caam_resnet')
    want = net.state_dict()
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].data_ptr() == value.data_ptr(), name
    with pytest.raises(ValueError, match='fc.weight'):
        convert({'fc.weight': torch.ones(1)}, 'caam_resnet')


def test_any_gate_drops_in():
    gate = dict(type='mmea.ExternalAttention2d', residual=False)
    net = build(gate=gate).eval()
    assert type(net.layer1[0].pair.gate).__name__ == 'ExternalAttention2d'
    (out,) = net(torch.randn(1, 3, 33, 35).double())
    assert out.shape == (1, 32, 2, 2) and out.isfinite().all()


def test_padding_enters_no_gate():
    torch.manual_seed(0)
    block = CaaMBlock(4, 4).double().eval()
    nn.init.normal_(block.pair.gate.token_norm.weight)
    x = torch.randn(2, 4, 6, 7).double()
    out = block._convolve(x, block.bn1, block.bn2)
    mask = torch.ones(2, 6, 7, dtype=torch.bool)
    mask[1, 4:] = mask[1, :, 3:] = False
    want = (block.pair.gate(out, mask) + x).relu()
    assert not torch.allclose(block(x), want)
    note_sizes(x, [(6, 7), (4, 3)])
    torch.testing.assert_close(block(x), want)


def test_norm_eval():
    net = build(norm_eval=True).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(2, 3, 32, 32).double())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_half_precision_and_a_batch_of_one():
    net = build(split_stage=3, out_indices=(0, 3)).eval()
    x = torch.randn(1, 3, 35, 41)
    want = net(x.double())
    net = net.bfloat16()
    for got, map_ in zip(net(x.bfloat16()), want, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), map_, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(depth=50), 'depth must be one of 18, 34.*depth=50'),
        (dict(split_stage=0), 'split_stage must be in 1..4.*split_stage=0'),
        (dict(split_stage=3, out_indices=1), r'1..2.*split_stage=3'),
        (dict(out_indices=(4,)), r'out_indices=\(4,\)'),
        (dict(out_indices=(1, 1)), r'each once.*\(1, 1\)'),
        (dict(out_indices=()), r'out_indices=\(\)'),
        (dict(multi=True, out_indices=(2, 3)), r'multi=True.*\(2, 3\)'),
        (dict(in_channels=0), 'in_channels=0'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CaaMResNet(**SMALL, **kwargs)


def test_bad_paths():
    with pytest.raises(ValueError, match="one, split, two, got paths='bi'"):
        CaaMBlock(4, 4, paths='bi')
