import pytest
import torch
from mmcv.cnn import NonLocal2d
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import nn

from mmea.models import MultiheadExternalAttention
from mmea.models.padding_mask import note_sizes
from mmea.swap import swap_attention

from .harness import ANY, EA, Host, filled, left_because


def test_the_input_may_be_written_over():
    host = Host(self_attn=MultiheadAttention(8, 2))
    target = dict(EA, inplace=True, form='low_rank')
    report = swap_attention(host, [dict(source='any', target=target)])
    assert len(report.replaced) == 1, report


class TestSignatures:
    """Each adapter against the bare member on the same tokens."""

    x = torch.randn(2, 6, 8)  # (B, N, C)

    def swap(self, **children) -> nn.Module:
        host = Host(**children)
        report = swap_attention(host, ANY)
        assert len(report.replaced) == 1, report
        return filled(host)

    def bare(self, layer: nn.Module, x, hw=(6, 1), mask=None):
        maps = x.mT.unflatten(2, hw)
        mask = None if mask is None else mask.unflatten(1, hw)
        return layer.attention(maps, mask).flatten(2).mT

    @pytest.mark.parametrize('batch_first', [True, False])
    def test_mmcv(self, batch_first):
        layer = self.swap(
            self_attn=MultiheadAttention(8, 2, batch_first=batch_first)
        ).self_attn

        def turn(x):
            return x if batch_first else x.transpose(0, 1)

        x, pos, identity = self.x, torch.randn(2, 6, 8), torch.randn(2, 6, 8)
        query = turn(x)
        want = self.bare(layer, x)
        torch.testing.assert_close(turn(layer(query)), x + want)
        out = layer(query, query, query, identity=turn(identity))
        torch.testing.assert_close(turn(out), identity + want)
        out = layer(query, residual=turn(identity))
        torch.testing.assert_close(turn(out), identity + want)
        places = turn(pos)
        out = layer(query, query_pos=places, key_pos=places)
        want = x + self.bare(layer, x + pos)
        torch.testing.assert_close(turn(out), want)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        want = x + self.bare(layer, x, mask=~padded)
        minus = torch.zeros(2, 6).masked_fill(padded, -torch.inf)
        for mask in (padded, padded.byte(), minus):
            out = layer(query, key_padding_mask=mask)
            torch.testing.assert_close(turn(out), want)
        # What is padded counts for nothing.
        other = x.clone()
        other[1, 4:] = 9
        out = turn(layer(turn(other), key_padding_mask=padded))
        torch.testing.assert_close(out[1, :4], want[1, :4])

    @pytest.mark.parametrize(
        'target',
        [
            EA,
            dict(type='mmea.CATT2d', in_sample=dict(type='mmea.NonLocal2d')),
        ],
    )
    def test_tokens_are_no_map_of_the_batch(self, target):
        """Its padding is not that of, say, proposals."""
        host = Host(self_attn=MultiheadAttention(8, 2, batch_first=True))
        swap_attention(host, [dict(source='any', target=target)])
        layer = filled(host).self_attn
        want = layer(self.x)
        batch = torch.zeros(2, 3, 64, 64)
        note_sizes(batch, [(64, 64), (32, 64)])
        torch.testing.assert_close(layer(self.x), want)

    def test_mmcv_drops_as_the_host(self):
        drop = dict(type='Dropout', drop_prob=0.5)
        old = MultiheadAttention(8, 2, proj_drop=0.25, dropout_layer=drop)
        layer = self.swap(self_attn=old).self_attn
        assert layer.proj_drop.p == 0.25
        assert layer.dropout_layer.p == 0.5
        assert layer.embed_dims == 8
        layer.train()
        assert not torch.equal(layer(self.x), layer(self.x))

    def test_refuses_what_it_was_not_swapped_for(self):
        layer = self.swap(self_attn=MultiheadAttention(8, 2)).self_attn
        with pytest.raises(ValueError, match='other keys or values'):
            layer(self.x, self.x + 1)
        with pytest.raises(ValueError, match='other positions of them'):
            layer(self.x, key_pos=self.x)
        with pytest.raises(ValueError, match='pairwise mask'):
            layer(self.x, attn_mask=torch.zeros(6, 6))
        layer = self.swap(self_attn=nn.MultiheadAttention(8, 2)).self_attn
        with pytest.raises(ValueError, match='keys of another shape'):
            layer(self.x, self.x[:1], self.x[:1])
        with pytest.raises(ValueError, match='pairwise mask'):
            layer(self.x, self.x, self.x, attn_mask=torch.zeros(6, 6))

    def test_token_member(self):
        """The same as that member by itself."""
        target = dict(type='mmea.MultiheadExternalAttention', num_slots=4)
        mit = pytest.importorskip('mmseg.models.backbones.mit')
        host = Host(
            map=NonLocal2d(8),
            attn=mit.EfficientMultiheadAttention(8, 2),
            self_attn=MultiheadAttention(8, 4),
        )
        rules = [dict(source='any', target=dict(target, num_heads=2))]
        report = swap_attention(host, rules)
        assert 'is for tokens' in left_because(report)['map']
        filled(host)
        assert host.self_attn.attention.num_heads == 2
        want = host.attn.attention(self.x)
        torch.testing.assert_close(host.attn(self.x, (2, 3)), want)
        x, pos = self.x.transpose(0, 1), torch.randn(6, 2, 8)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        want = host.self_attn.attention(
            self.x, query_pos=pos.transpose(0, 1), key_padding_mask=padded
        )
        out = host.self_attn(x, query_pos=pos, key_padding_mask=padded)
        torch.testing.assert_close(out.transpose(0, 1), want)

    @pytest.mark.parametrize('batch_first', [True, False])
    def test_torch(self, batch_first):
        old = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=batch_first)
        host = self.swap(**dict(old.named_children()))
        for name, child in host.named_children():
            setattr(old, name, child)
        old.eval()
        x = self.x if batch_first else self.x.transpose(0, 1)
        padded = torch.zeros(2, 6, dtype=torch.bool)
        padded[1, 4:] = True
        attn = self.bare(old.self_attn, self.x, mask=~padded)
        y = old.norm1(self.x + attn)
        y = old.norm2(y + old.linear2(old.linear1(y).relu()))
        out = old(x, src_key_padding_mask=padded)
        out = out if batch_first else out.transpose(0, 1)
        torch.testing.assert_close(out, y)
        out, weights = old.self_attn(x, x, x, need_weights=True)
        assert weights is None
        assert out.shape == x.shape

    def test_efficient(self):
        mit = pytest.importorskip('mmseg.models.backbones.mit')
        old = mit.EfficientMultiheadAttention(8, 2, sr_ratio=2)
        layer = self.swap(attn=old).attn
        want = self.bare(layer, self.x, (2, 3))
        torch.testing.assert_close(layer(self.x, (2, 3)), self.x + want)
        out = layer(self.x, (2, 3), identity=self.x * 2)
        torch.testing.assert_close(out, self.x * 2 + want)

    def test_spatial_reduction(self):
        pvt = pytest.importorskip('mmdet.models.backbones.pvt')
        old = pvt.SpatialReductionAttention(8, 2, sr_ratio=2)
        layer = self.swap(attn=old).attn
        want = self.x + self.bare(layer, self.x, (2, 3))
        torch.testing.assert_close(layer(self.x, (2, 3)), want)

    def test_swin(self):
        swin = pytest.importorskip('mmseg.models.backbones.swin')
        old = swin.ShiftWindowMSA(8, 2, 2, shift_size=1)
        layer = self.swap(attn=old).attn
        want = self.bare(layer, self.x, (2, 3))  # no residual: its host adds
        torch.testing.assert_close(layer(self.x, hw_shape=(2, 3)), want)

    def test_swin_drops_as_the_host(self):
        swin = pytest.importorskip('mmseg.models.backbones.swin')
        drop = dict(type='DropPath', drop_prob=0.5)
        old = swin.ShiftWindowMSA(
            8, 2, 2, proj_drop_rate=0.25, dropout_layer=drop
        )
        layer = self.swap(attn=old).attn
        assert layer.proj_drop.p == 0.25
        assert layer.dropout_layer.drop_prob == 0.5

    def test_pvt(self):
        pvt = pytest.importorskip('mmdet.models.backbones.pvt')
        model = pvt.PyramidVisionTransformer(
            pretrain_img_size=32,
            embed_dims=8,
            num_stages=2,
            num_layers=[1, 1],
            num_heads=[1, 2],
            patch_sizes=[4, 2],
            strides=[4, 2],
            sr_ratios=[2, 1],
            mlp_ratios=[2, 2],
            out_indices=(0, 1),
        )
        report = swap_attention(model, ANY)
        assert [s.name for s in report.replaced] == [
            'layers.0.1.1.attn',
            'layers.1.1.1.attn',
        ]
        outs = model(torch.randn(1, 3, 32, 32))
        assert [out.shape[2] for out in outs] == [8, 4]


@pytest.mark.parametrize(
    'target',
    [
        dict(type='mmea.NonLocal2d', sub_sample=True),
        dict(type='mmea.StandAloneAttention2d'),
        dict(type='mmea.HaloAttention2d'),
        dict(type='mmea.ELSA2d'),
        dict(type='mmea.OutlookAttention2d'),
        dict(type='mmea.CBAMGate2d', norm_cfg=dict(type='GN', num_groups=2)),
    ],
    ids=lambda target: target['type'],
)
def test_local_target(target):
    """What depends on the map needs tokens with height and width."""
    mit = pytest.importorskip('mmseg.models.backbones.mit')
    host = Host(
        map=NonLocal2d(8),
        attn=mit.EfficientMultiheadAttention(8, 2),
        self_attn=MultiheadAttention(8, 2),
    )
    report = swap_attention(host, [dict(source='any', target=target)])
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(host.attn(x, (2, 3)), x)  # starts at zero
    x = x.mT.unflatten(2, (2, 3))
    torch.testing.assert_close(host.map(x), x)
    assert [s.name for s in report.replaced] == ['map', 'attn']
    assert 'height and width' in left_because(report)['self_attn']


@pytest.mark.parametrize(
    'kind',
    [
        'CATT2d',
        'EfficientAttention2d',
        'LinearAttention2d',
        'NonLocal2d',
        'SelfAttention2d',
    ],
)
def test_every_member(kind):
    wide = Host(self_attn=MultiheadAttention(768, 2))
    target = dict(type=f'mmea.{kind}')
    report = swap_attention(wide, [dict(source='any', target=target)])
    assert len(report.replaced) == 1
    attn = MultiheadAttention(8, 2, batch_first=True)
    host = Host(a=NonLocal2d(8), self_attn=attn)
    target = dict(type=f'mmea.{kind}')
    report = swap_attention(host, [dict(source='any', target=target)])
    assert len(report.replaced) == 2
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(host.self_attn(x), x)  # starts at zero
    filled(host.self_attn)
    mask = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    assert not torch.equal(host.self_attn(x, key_padding_mask=mask), x)


def test_target_by_its_class():
    host = Host(map=NonLocal2d(8), self_attn=MultiheadAttention(8, 2))
    target = dict(type=MultiheadExternalAttention)
    report = swap_attention(host, [dict(source='any', target=target)])
    assert [s.name for s in report.replaced] == ['self_attn']
    assert 'is for tokens' in left_because(report)['map']
