"""Whole published nets: converted in one call, and the same outputs."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import nn

from mmea.convert import convert, untouched
from mmea.registry import MODELS

from .conftest import tool
from .test_oracle import build


def randomise(model):
    """Draw everything, so that no two entries can be taken for another."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            nn.init.normal_(value, std=0.3)
            if name.endswith('running_var'):
                value.abs_().add_(0.5)
    return model.double().eval()


@pytest.fixture
def nlnet():
    """A build of mmseg's NLNet, small, with a block of this type."""
    pytest.importorskip('mmseg.models')

    def make(cls=None):
        norm_cfg = dict(type='BN')
        cfg = dict(
            type='EncoderDecoder',
            backbone=dict(
                type='ResNetV1c',
                depth=18,
                stem_channels=8,
                base_channels=4,
                norm_cfg=norm_cfg,
            ),
            decode_head=dict(
                type='NLHead',
                in_channels=32,
                in_index=3,
                channels=8,
                num_classes=5,
                mode='embedded_gaussian',
                norm_cfg=norm_cfg,
                align_corners=False,
            ),
        )
        with DefaultScope.overwrite_default_scope('mmseg'):
            model = MODELS.build(cfg)
        if cls:
            model.decode_head.nl_block = MODELS.build(
                dict(type=cls, in_channels=8, norm_cfg=norm_cfg)
            )
        return randomise(model)

    return make


def test_nlnet(nlnet, tmp_path, run, capfd):
    """A file of mmseg, by the command."""
    old, new = nlnet(), nlnet('mmea.NonLocal2d')
    names = list(old.state_dict())
    inside = [n for n in names if n.startswith('decode_head.nl_block.')]
    assert len(inside) == 12
    meta = dict(dataset_meta=dict(classes=['a', 'b']))
    file = dict(state_dict=old.state_dict(), meta=meta)
    torch.save(file, tmp_path / 'old.pth')
    main = tool('model_converters/convert.py')
    args = ('non_local', tmp_path / 'old.pth', tmp_path / 'new.pth')
    run(main, *args, '--prefix', 'decode_head.nl_block')
    said = capfd.readouterr().out
    number = len(names) - len(inside)
    assert f'\n{number} of them kept as they are: backbone.stem.* (' in said
    assert 'decode_head.convs.* (12)' in said and 'nl_block' not in said
    file = torch.load(tmp_path / 'new.pth')
    assert file['meta'] == meta
    new.load_state_dict(file['state_dict'])
    kept = untouched(old.state_dict(), 'non_local', 'decode_head.nl_block.')
    assert kept == [n for n in names if n not in inside]
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(new(x), old(x))
    with pytest.raises(
        SystemExit, match="^error: .*under the prefix 'decode_head.nl_block.'"
    ):
        run(main, *args)


def ours_for(module):
    """Build our layer for one of timm's."""
    return build(
        'timm_halo',
        module.q.in_channels,
        out_channels=module.dim_out_v,
        num_heads=module.num_heads,
        key_channels=module.dim_out_qk,
        block_size=module.block_size,
        halo_size=module.halo_size,
        stride=module.q.stride[0],
    ).double()


def test_halonet26t():
    """timm's net with ours in it, where there is no stride."""
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    old, new = (
        timm.create_model('halonet26t').double().eval() for _ in range(2)
    )
    for name, value in old.state_dict().items():
        if 'rel' in name:
            nn.init.normal_(value, std=0.3)
        elif name.endswith('running_var'):
            nn.init.uniform_(value, 0.5, 2)
        elif name.endswith('conv3_1x1.bn.weight'):
            nn.init.constant_(value, 0.5)  # from zero
    blocks = [new.stages[2][1], new.stages[3][1]]
    for block in blocks:
        block.self_attn = ours_for(block.self_attn)
    state, where = old.state_dict(), 'stages.*.1.self_attn.'
    got = convert(state, 'timm_halo', where)
    kept = untouched(state, 'timm_halo', where)
    assert len(state) - len(kept) == 2 * 4
    assert 'stages.3.0.self_attn.kv.weight' in kept
    assert all(got[name] is state[name] for name in kept)
    new.load_state_dict(got)
    x = torch.randn(1, 3, 256, 256, dtype=torch.float64)
    with torch.no_grad():
        want = old(x)
        torch.testing.assert_close(new(x), want)
        blocks[0].self_attn.row_table.zero_()
        assert (new(x) - want).abs().max() > 1e-6 * want.abs().max()


def test_strided_queries_of_timm():
    """Why the strided layer is left over: its queries count 0, 1, 2, ..."""
    halo_attn = pytest.importorskip('timm.layers.halo_attn')
    torch.manual_seed(0)
    old = halo_attn.HaloAttn(16, stride=2, block_size=4, halo_size=1)
    old = old.double()
    new = ours_for(old)
    new.load_state_dict(convert(old.state_dict(), 'timm_halo'))
    x = torch.randn(1, 16, 8, 12, dtype=torch.float64)
    want = old(x)
    assert (new(x) - want).abs().max() > 1e-2 * want.abs().max()
    side = torch.arange(4 + 2)

    def expand(table):
        return table[side - torch.arange(2)[:, None] + 6 - 1].mT

    new._expand = expand
    torch.testing.assert_close(new(x), want)


# ELSA-Swin, from the names and the formulas of the authors' code.
WIDTH, WINDOW, DEPTHS, HEADS = 8, 3, (2, 1, 1, 2), (1, 2, 4, 8)
ELSA = dict(kernel_size=3, group_width=2)


def elsa_swin_shapes(norms: dict[str, int], classes: int = 0) -> dict:
    """Name every entry of a published net."""
    shapes = {'patch_embed.proj': (WIDTH, 3, 4, 4), 'patch_embed.norm': WIDTH}
    for i, depth in enumerate(DEPTHS):
        c = WIDTH * 2**i
        for j in range(depth):
            block = f'layers.{i}.blocks.{j}.'
            shapes |= {block + 'norm1': c, block + 'norm2': c}
            shapes[block + 'mlp.fc1'] = (4 * c, c)
            shapes[block + 'mlp.fc2'] = (c, 4 * c)
            shapes[block + 'attn.post_proj'] = (c, c)
            if i == 3:
                shapes[block + 'attn.pre_proj'] = (3 * c, c)
                size = (2 * WINDOW - 1) ** 2
                shapes[block + 'attn.rb!'] = (HEADS[i], size)
                continue
            d = -(-(c // 3 * 2) // 2) * 2
            taps = ELSA['kernel_size'] ** 2 * HEADS[i]
            shapes[block + 'attn.pre_proj'] = (2 * d + c, c, 1, 1)
            shapes[block + 'attn.attn.0'] = (d, 2, 3, 3)
            shapes[block + 'attn.attn.2'] = (taps, d, 1, 1)
            shapes[block + 'attn.ghost_head!'] = (1, c, 3, 3)
        if i < 3:
            shapes[f'layers.{i}.downsample.norm'] = 4 * c
            shapes[f'layers.{i}.downsample.reduction!.weight'] = (2 * c, 4 * c)
    shapes |= norms
    if classes:
        shapes['head'] = (classes, 8 * WIDTH)
    return shapes


def elsa_swin_state(*args) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        value = torch.randn(size, generator=generator, dtype=torch.float64)
        return 0.3 * value

    state = {}
    for name, size in elsa_swin_shapes(*args).items():
        size = (size,) if isinstance(size, int) else size
        if '!' in name:
            state[name.replace('!', '')] = draw(*size)
        else:
            state[name + '.weight'] = draw(*size)
            state[name + '.bias'] = draw(size[0])
    place = torch.arange(WINDOW)
    place = torch.cartesian_prod(place, place)
    offset = place[None] - place[:, None] + WINDOW - 1  # key minus query
    index = offset[..., 0] * (2 * WINDOW - 1) + offset[..., 1]
    for j in range(DEPTHS[3]):
        state[f'layers.3.blocks.{j}.attn.relative_id'] = index.flatten()
    return state


class Published:
    """The net, computed pixel by pixel where an order matters."""

    def __init__(self, state):
        self.state = state

    def linear(self, name, x):
        return F.linear(
            x, self.state[name + '.weight'], self.state.get(name + '.bias')
        )

    def norm(self, name, x):
        weight, bias = (self.state[f'{name}.{k}'] for k in ('weight', 'bias'))
        return F.layer_norm(x, x.shape[-1:], weight, bias)

    def stages(self, x):
        """(B, 3, H, W) to four (B, H', W', C) in front of their norms."""
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        x = F.conv2d(
            x,
            self.state['patch_embed.proj.weight'],
            self.state['patch_embed.proj.bias'],
            stride=4,
        )
        x = self.norm('patch_embed.norm', x.movedim(1, 3))
        for i, depth in enumerate(DEPTHS):
            for j in range(depth):
                name = f'layers.{i}.blocks.{j}.'
                y = self.norm(name + 'norm1', x)
                if i < 3:
                    x = x + self.elsa(name + 'attn.', HEADS[i], y)
                else:
                    shift = j % 2 * (WINDOW // 2)
                    x = x + self.windows(name + 'attn.', HEADS[i], shift, y)
                y = self.linear(name + 'mlp.fc1', self.norm(name + 'norm2', x))
                x = x + self.linear(name + 'mlp.fc2', F.gelu(y))
            yield x
            if i < 3:
                x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
                x = torch.cat(
                    [x[:, r::2, c::2] for c in (0, 1) for r in (0, 1)], -1
                )
                name = f'layers.{i}.downsample.'
                x = self.linear(
                    name + 'reduction', self.norm(name + 'norm', x)
                )

    def elsa(self, prefix, heads, x):
        """By our layer, which has recorded numbers of its own."""
        layer = build('elsa', x.shape[3], num_heads=heads, **ELSA).double()
        part = {
            name.removeprefix(prefix): value
            for name, value in self.state.items()
            if name.startswith(prefix)
        }
        layer.load_state_dict(convert(part, 'elsa'))
        return layer(x.movedim(3, 1)).movedim(1, 3)

    def windows(self, prefix, heads, shift, x):
        """Every pair of pixels, most of them left out."""
        batch, height, width, channels = x.shape
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        sides = x.shape[1:3]
        qkv = self.linear(prefix + 'pre_proj', x).flatten(1, 2)
        v, q, k = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        # Of each pixel, on both axes: its place after the shift, its window,
        # and the part of the map that the shift brought together there.
        same, offset = True, []
        places = torch.cartesian_prod(*(torch.arange(n) for n in sides))
        for place, n in zip(places.T, sides):
            place = (place - shift) % n
            region = place // WINDOW * 4 + (
                (place >= n - WINDOW).long() + (place >= n - shift)
                if shift
                else 0
            )
            same = same & (region[:, None] == region)
            offset.append(place - place[:, None] + WINDOW - 1)
        offset = [o.clamp(0, 2 * WINDOW - 2) for o in offset]
        index = offset[0] * (2 * WINDOW - 1) + offset[1]
        logits = q @ k.mT * q.shape[-1] ** -0.5
        logits = logits + self.state[prefix + 'rb'][:, index]
        attn = logits.masked_fill(~same, -torch.inf).softmax(-1)
        x = (attn @ v).transpose(1, 2).flatten(2)
        x = self.linear(prefix + 'post_proj', x)
        return x.unflatten(1, sides)[:, :height, :width]


SWIN = dict(
    type='mmea.ELSASwin',
    embed_dims=WIDTH,
    depths=DEPTHS,
    num_heads=HEADS,
    window_size=WINDOW,
    drop_path_rate=0.0,
    **ELSA,
)
# Odd in every stage; 7 x 6 tokens in windows of 3 x 3 at the end.
IMAGE = (2, 3, 4 * 49 - 1, 4 * 45 - 2)


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_elsa_swin_backbone(scope):
    """The authors' detector: its backbone converted, the rest kept."""
    pytest.importorskip(f'{scope}.models')
    with DefaultScope.overwrite_default_scope(scope):
        net = MODELS.build(SWIN).double()
    net.eval()
    state = elsa_swin_state({f'norm{i}': WIDTH * 2**i for i in range(4)})
    file = {'backbone.' + name: value for name, value in state.items()}
    file['neck.fpn_convs.0.conv.weight'] = torch.ones(1)
    got = convert({'state_dict': file}, 'elsa_swin', 'backbone.')
    assert got.pop('neck.fpn_convs.0.conv.weight').item() == 1
    own = net.state_dict()
    net.load_state_dict({k.removeprefix('backbone.'): got[k] for k in got})
    # The one entry that is computed: as the net itself has it.
    name = 'stages.3.blocks.0.attn.w_msa.relative_position_index'
    assert torch.equal(got['backbone.' + name], own[name])
    x = torch.randn(IMAGE, dtype=torch.float64)
    outs = net(x)
    reference = Published(state)
    for i, want in enumerate(reference.stages(x)):
        want = reference.norm(f'norm{i}', want).movedim(3, 1)
        torch.testing.assert_close(outs[i], want)


def test_elsa_swin_classifier():
    pytest.importorskip('mmpretrain.models')
    cfg = dict(
        type='ImageClassifier',
        backbone=SWIN | dict(pad_small_map=True),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=8 * WIDTH),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg).double().eval()
    state = elsa_swin_state({'norm': 8 * WIDTH}, 5)
    model.load_state_dict(convert({'model': state}, 'elsa_swin_classifier'))
    x = torch.randn(IMAGE, dtype=torch.float64)
    reference = Published(state)
    *_, want = reference.stages(x)
    want = reference.linear('head', reference.norm('norm', want).mean((1, 2)))
    logits = model.head.fc(model.extract_feat(x)[-1])
    torch.testing.assert_close(logits, want)


@pytest.mark.parametrize(
    ('name', 'source', 'backbone', 'channels'),
    [
        ('resnet18', 'resnet', dict(type='ResNet', depth=18), 512),
        (
            'mobilenet_v2',
            'torchvision_mobilenet_v2',
            dict(type='MobileNetV2'),
            1280,
        ),
    ],
)
def test_classifiers_of_torchvision(name, source, backbone, channels):
    """The whole net, classifier included, in mmpretrain."""
    pytest.importorskip('mmpretrain')
    models = pytest.importorskip('torchvision').models
    net = randomise(getattr(models, name)(num_classes=7))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        ours = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=backbone,
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead', num_classes=7, in_channels=channels
                ),
            )
        )
    ours.double().load_state_dict(convert(net.state_dict(), source))
    ours.eval()
    x = torch.randn(2, 3, 67, 51, dtype=torch.float64)
    torch.testing.assert_close(ours(x, mode='tensor'), net(x))
