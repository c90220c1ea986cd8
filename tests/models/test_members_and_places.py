"""Every member of the attention family, and every place that takes one.

All members in one place, and one member in all places: a host knows nothing
of the member, and a member nothing of its host.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmea.engine.config import load_config
from mmea.layers import AttentionBlock2d
from mmea.models import padding_mask as padding
from mmea.models.padding_mask import current_mask, note_sizes
from mmea.registry import MODELS


def _members() -> list[str]:
    import mmea.models  # noqa: F401, registers them

    return sorted(
        name
        for name, part in MODELS.module_dict.items()
        if inspect.isclass(part) and issubclass(part, AttentionBlock2d)
    )


MEMBERS = _members()
OTHERS = sorted(MODELS.module_dict.keys() - MEMBERS)
# Other systems under the name of a member, and its form with a residual.
VARIANTS = {
    'catt-of-external': dict(
        type='mmea.CATT2d',
        in_sample=dict(type='mmea.ExternalAttention2d'),
    ),
    'catt-shared': dict(type='mmea.CATT2d', shared=True),
    'cbam-residual': dict(
        type='mmea.CBAMGate2d', residual=True, norm_cfg=dict(type='BN')
    ),
    'elsa-scaled': dict(type='mmea.ELSA2d', lam=1, kernel_size=3),
    'external-plain': dict(type='mmea.ExternalAttention2d', form='plain'),
    'external-published': dict(
        type='mmea.ExternalAttention2d', norm_cfg=dict(type='BN')
    ),
    'halo-unmasked': dict(
        type='mmea.HaloAttention2d', masked=False, project=False
    ),
    'linear-dual': dict(type='mmea.LinearAttention2d', mode='dual'),
    'non-local-concatenation': dict(
        type='mmea.NonLocal2d', mode='concatenation'
    ),
    'non-local-dot-product': dict(type='mmea.NonLocal2d', mode='dot_product'),
    'non-local-gaussian': dict(type='mmea.NonLocal2d', mode='gaussian'),
    'stand-alone-absolute': dict(
        type='mmea.StandAloneAttention2d', position='absolute'
    ),
    'stand-alone-channelwise': dict(
        type='mmea.StandAloneAttention2d', channelwise=True
    ),
}
SYSTEMS = {n: dict(type=f'mmea.{n}') for n in MEMBERS} | VARIANTS


@dataclass(frozen=True)
class Place:
    """Where an attention goes: its host, and the maps the host gets."""

    package: str
    #: Config of the host from that of the attention.
    host: Callable[[dict], dict]
    #: (C, H, W) of every map.
    sizes: list[tuple[int, int, int]]
    #: How many attentions there are, and how often they are called in all.
    layers: int
    calls: int
    #: Whether the host takes one map and not a list.
    single: bool = False
    #: Whether build_attention makes the layer, and not mmcv.
    ours: bool = True
    #: Whether the maps are those of the batch, padding included.
    padded: bool = True


def seg_head(**kwargs) -> dict:
    return dict(num_classes=3, norm_cfg=dict(type='BN'), **kwargs)


def backbone(**kwargs) -> dict:
    return dict(base_channels=3, stem_channels=3, init_cfg=None, **kwargs)


def plugins(attention: dict) -> list[dict]:
    return [
        dict(cfg=dict(attention, postfix=f'_{i}'), position=f'after_conv{i}')
        for i in (1, 2, 3)
    ]


def one_stage_with_plugins(package: str) -> Place:
    return Place(
        package,
        lambda a: backbone(
            type=f'{package}.ResNet',
            depth=50,
            num_stages=1,
            strides=(1,),
            dilations=(1,),
            out_indices=(0,),
            # Or the last norm of each block would hide what comes before.
            zero_init_residual=False,
            plugins=plugins(a),
        ),
        [(3, 33, 21)],
        layers=3 * 3,
        calls=3 * 3,
        single=True,
        ours=False,
    )


def stages(package: str) -> Place:
    return Place(
        package,
        lambda a: backbone(
            type='mmea.StageAttentionResNet',
            after=['C2', 'C3', 'C4', 'C5'],
            base=f'{package}.ResNet',
            depth=18,
            attention=a,
        ),
        [(3, 65, 49)],
        layers=4,
        calls=4,
        single=True,
    )


LEVELS = [(5, 11, 9), (5, 7, 5), (5, 3, 2)]
PLACES = {
    'EAHead': Place(
        'mmseg',
        lambda a: seg_head(
            type='mmea.EAHead',
            in_channels=5,
            in_index=0,
            channels=7,
            mid_channels=3,
            attention=a,
        ),
        [(5, 11, 13)],
        layers=1,
        calls=1,
    ),
    'EAFPNHead': Place(
        'mmseg',
        lambda a: seg_head(
            type='mmea.EAFPNHead',
            in_channels=[5, 5, 5],
            in_index=[0, 1, 2],
            feature_strides=[4, 8, 16],
            channels=7,
            attention=a,
        ),
        LEVELS,
        layers=1,
        calls=1,
    ),
    'EANeck': Place(
        'mmengine',
        lambda a: dict(type='mmea.EANeck', in_channels=[5, 7, 5], attention=a),
        [(5, 11, 9), (7, 7, 5), (5, 3, 2)],
        layers=3,
        calls=3,
    ),
    'EANeck-share': Place(
        'mmengine',
        lambda a: dict(
            type='mmea.EANeck', in_channels=[5] * 3, share=True, attention=a
        ),
        LEVELS,
        layers=1,
        calls=3,
    ),
    'EABFP': Place(
        'mmdet',
        lambda a: dict(
            type='mmea.EABFP',
            in_channels=5,
            num_levels=3,
            refine_level=1,
            attention=a,
        ),
        LEVELS,
        layers=1,
        calls=1,
    ),
    'EARetinaHead': Place(
        'mmdet',
        lambda a: dict(
            type='mmea.EARetinaHead',
            num_classes=2,
            in_channels=5,
            feat_channels=7,
            stacked_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], scales=[4], strides=[8]
            ),
            attention=a,
        ),
        LEVELS,
        layers=2,
        calls=2 * 3,
    ),
    'EAMaskHead': Place(
        'mmdet',
        lambda a: dict(
            type='mmea.EAMaskHead',
            num_convs=1,
            in_channels=5,
            conv_out_channels=7,
            num_classes=2,
            attention=a,
        ),
        [(5, 9, 7)],
        layers=1,
        calls=1,
        single=True,
        padded=False,
    ),
    'StageAttentionResNet-mmseg': stages('mmseg'),
    'StageAttentionResNet-mmdet': stages('mmdet'),
    'plugins-mmseg': one_stage_with_plugins('mmseg'),
    'plugins-mmdet': one_stage_with_plugins('mmdet'),
}


@pytest.fixture
def place(request):
    place = PLACES[request.param]
    if place.package == 'mmengine':
        yield place
        return
    pytest.importorskip(f'{place.package}.models')
    with DefaultScope.overwrite_default_scope(place.package):
        yield place


@pytest.fixture(autouse=True)
def forget():
    yield
    padding._notes.clear()


def make(place: Place, attention: dict, training: bool = False) -> nn.Module:
    """The host from the config alone, initialised in its own way."""
    torch.manual_seed(0)
    model = MODELS.build(place.host(attention))
    model.init_weights()
    # A ResNet's train() and eval() return nothing.
    model.double().train(training)
    return model


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """The layers, without those inside them."""
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, AttentionBlock2d)
    }
    return {
        name: layer
        for name, layer in found.items()
        if not any(name.startswith(f'{other}.') for other in found)
    }


def randomise(model: nn.Module) -> nn.Module:
    """The attentions: the zeros of the start would hide errors."""
    for layer in attentions(model).values():
        for param in layer.parameters():
            nn.init.normal_(param, std=0.5)
    return model


def without_attention(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for name in attentions(model):
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, nn.Identity())
    return model


def maps(place: Place, batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return [
        torch.randn(batch, *size, generator=generator, dtype=torch.float64)
        for size in place.sizes
    ]


def run(model: nn.Module, place: Place, xs: list[Tensor]) -> list[Tensor]:
    return flat(model(xs[0] if place.single else xs))


def flat(out) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    return [tensor for part in out for tensor in flat(part)]


def watch(model: nn.Module, place: Place, xs: list[Tensor]) -> list[tuple]:
    """Each call of an attention: the layer, what it gets, what it gives."""
    calls = []
    handles = [
        layer.register_forward_hook(
            # A bottleneck adds and activates in place.
            lambda layer, args, out: calls.append(
                (layer, args[0].clone(), out.clone())
            )
        )
        for layer in attentions(model).values()
    ]
    with torch.no_grad():
        run(model, place, xs)
    for handle in handles:
        handle.remove()
    assert len(calls) == place.calls
    return calls


# Of several levels, with an attention of its own width at each.
RICHEST = 'EANeck'
PAIRS = [(RICHEST, s) for s in SYSTEMS]
PAIRS += [(p, 'ExternalAttention2d') for p in PLACES if p != RICHEST]
# Whose inner member must not take regions for the images of the batch.
PAIRS.append(('EAMaskHead', 'catt-of-external'))


def parametrize(pairs: list[tuple[str, str]]):
    return pytest.mark.parametrize(
        ('place', 'system'),
        [(p, SYSTEMS[s]) for p, s in pairs],
        ids=[f'{p}-{s}' for p, s in pairs],
        indirect=['place'],
    )


@parametrize(PAIRS)
def test_starts_as_the_host_alone(place, system):
    """From ``type`` only; the bare gate is there from the start."""
    model = make(place, system)
    assert len(attentions(model)) == place.layers
    starts_as_identity = all(m.residual for m in attentions(model).values())
    plain = without_attention(model)
    for batch in (1, 2):
        xs = maps(place, batch)
        got, want = run(model, place, xs), run(plain, place, xs)
        assert [g.shape for g in got] == [w.shape for w in want]
        assert all(g.isfinite().all() for g in got)
        # A list's last map may be the only one that is attended to.
        same = all(torch.equal(g, w) for g, w in zip(got, want))
        assert same == starts_as_identity


def bare(place: Place) -> Place:
    """A head without convolutions, whose branches read the map given."""

    def host(attention: dict) -> dict:
        cfg = place.host(attention)
        key = {'stacked_convs', 'num_convs'} & cfg.keys()
        return cfg | dict.fromkeys(key, 0)

    return replace(place, host=host)


@torch.no_grad()
@pytest.mark.parametrize('place', PLACES, indirect=True)
@pytest.mark.parametrize(
    'system',
    [
        dict(type='mmea.ExternalAttention2d'),
        dict(
            type='mmea.CATT2d', in_sample=dict(type='mmea.ExternalAttention2d')
        ),
    ],
    ids=['external', 'catt'],
)
def test_written_over_the_input(place, system):
    """What a host reads again, ``inplace`` must leave."""
    inner = system.get('in_sample', system)
    for where in (place, bare(place)):
        outs = []
        for inplace in (False, True):
            inner.update(inplace=inplace, form='low_rank')
            outs.append(
                run(randomise(make(where, system)), where, maps(where, 2))
            )
        for got, want in zip(*outs):
            torch.testing.assert_close(got, want)


@parametrize(PAIRS)
def test_trains(place, system):
    """Every parameter gets a gradient, and a step changes what comes out."""
    start = randomise(make(place, system, training=True))
    for batch in (1, 2):
        model = copy.deepcopy(start)
        xs = maps(place, batch)
        before = run(copy.deepcopy(start), place, xs)
        outs = run(model, place, xs)
        sum((out * torch.randn_like(out)).sum() for out in outs).backward()
        for name, layer in attentions(model).items():
            for key, param in layer.named_parameters():
                assert param.grad is not None, f'{name}.{key}'
                assert param.grad.isfinite().all(), f'{name}.{key}'
            grads = [param.grad for param in layer.parameters()]
            assert sum(grad.abs().sum() for grad in grads) > 0, name
            with torch.no_grad():
                for param, grad in zip(layer.parameters(), grads):
                    param -= 1e-3 * grad
        after = run(model, place, xs)
        assert not all(torch.equal(a, b) for a, b in zip(after, before))


@parametrize(PAIRS)
def test_padding_reaches_no_valid_token(place, system):
    """Whatever the padding holds; and valid tokens see all of their image."""
    model = randomise(make(place, system))
    for batch in (1, 2):
        check_padding(model, place, maps(place, batch))


def check_padding(model: nn.Module, place: Place, xs: list[Tensor]):
    batch = len(xs[0])
    whole = torch.zeros(batch, 3, 65, 49) if len(xs[0][0]) != 3 else xs[0]
    height, width = whole.shape[2:]
    sizes = [(height - 20, width // 2), (height // 2, width)][:batch]
    free = copy.deepcopy(model)
    for layer in free.modules():
        layer.padded = False
    bare = attentions(free)
    names = {layer: name for name, layer in attentions(model).items()}
    note_sizes(whole, sizes)
    padded = 0
    for layer, x, out in watch(model, place, xs):
        alone, mask = bare[names[layer]], current_mask(x)
        hidden = ~mask.unsqueeze(1).expand_as(x)
        felt = 0
        # Of both signs: a softmax may give the one of them no weight.
        for size in (1e4, -1e4):
            junk = torch.where(hidden, size * torch.rand_like(x).add(1), x)
            with torch.no_grad():
                got, without = layer(junk), alone(junk)
            if not place.padded:
                assert torch.equal(got, without), 'regions have no padding'
                continue
            torch.testing.assert_close(
                got[~hidden], out[~hidden], rtol=1e-5, atol=1e-5
            )
            if hidden.any():
                change = (without - out)[~hidden].abs().max().item()
                felt = max(felt, change)
        if not place.padded:
            continue
        for i, valid in enumerate(mask):
            rows, columns = valid.any(1).sum(), valid.any(0).sum()
            crop = x[i : i + 1, :, :rows, :columns]
            with torch.no_grad():
                want = alone(crop)
            torch.testing.assert_close(
                out[i : i + 1, :, :rows, :columns], want, rtol=1e-5, atol=1e-5
            )
        if hidden.any():
            padded += 1
            assert felt > 1e-6, 'without the mask the junk is felt'
    assert padded > 0 or not place.padded


@pytest.mark.parametrize(
    'place', [n for n, p in PLACES.items() if p.ours], indirect=True
)
def test_other_layers_are_refused(place):
    """Layers on tokens, the causal pair, and what is no attention at all."""
    for name in OTHERS:
        words = f'mmea.{name}.* is no attention on maps.*ExternalAttention2d'
        with pytest.raises(ValueError, match=words):
            make(place, dict(type=f'mmea.{name}'))


@pytest.mark.parametrize('place', [RICHEST], indirect=True)
@pytest.mark.parametrize('name', ['HaloAttention2d', 'StandAloneAttention2d'])
@pytest.mark.parametrize(
    ('sizes', 'words'),
    [
        (dict(stride=2), 'stride=2'),
        (dict(out_channels=8), 'out_channels=8'),
    ],
)
def test_another_size_is_refused(place, name, sizes, words):
    attention = dict(type=f'mmea.{name}', residual=False, **sizes)
    with pytest.raises(ValueError, match=f'{words}, .*as the host.*leave'):
        make(place, attention)


EANET = 'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py'


@pytest.mark.parametrize(
    ('config', 'name'),
    [*(('ea_fpn_ade20k.py', name) for name in MEMBERS), (EANET, 'NonLocal2d')],
)
def test_type_from_the_command_line(config, name):
    pytest.importorskip('mmseg.models')
    option = {'model.decode_head.attention.type': f'mmea.{name}'}
    cfg = load_config(config, options=option).model.decode_head
    cfg.update(channels=8, norm_cfg=dict(type='BN'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(cfg)
    assert type(head.attention) is MODELS.module_dict[name]
    assert isinstance(head.attention.norm, nn.SyncBatchNorm)
