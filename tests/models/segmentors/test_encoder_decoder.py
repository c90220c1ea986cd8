"""mmseg's tests of a segmentor, in tiles."""

import pytest
import torch

import mmea
from mmea.errors import UserError

pytest.importorskip('mmseg')

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from mmea.models.padding_mask import pop_sizes  # noqa: E402
from mmea.models.segmentors.tile_probe import classify  # noqa: E402
from tests.small_nets import make_lively, make_small_ea_fpn  # noqa: E402


@pytest.fixture(scope='module')
def model():
    return make_small_ea_fpn(type='mmea.EncoderDecoder')


@pytest.fixture
def in_tiles(model, monkeypatch):
    """Make a model test in tiles."""

    def change(**options):
        cfg = dict(mode='exact_tiles', core=256) | options
        monkeypatch.setattr(model, 'test_cfg', ConfigDict(cfg))
        return model

    return change


def batch(*sizes, **meta):
    """Images, brighter to the right, and their samples."""
    torch.manual_seed(1)
    images = [
        (torch.rand(3, h, w) * torch.linspace(20, 255, w)).byte()
        for h, w in sizes
    ]
    samples = [
        SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, **meta))
        for size in sizes
    ]
    return dict(inputs=images, data_samples=samples)


def pads(model, monkeypatch):
    monkeypatch.setattr(
        model.data_preprocessor, 'test_cfg', dict(size_divisor=32)
    )


@pytest.mark.parametrize('mask', [True, False])
def test_equals_whole(model, in_tiles, mask, monkeypatch):
    """Two images of one batch, padded to the stride, masked or not."""
    monkeypatch.setattr(model.data_preprocessor, 'padding_mask', mask)
    pads(model, monkeypatch)
    size = 70, 1000
    in_tiles().test_step(batch((64, 320)))  # the halo is known then
    in_tiles(mode='whole')
    want = model.test_step(batch(size, size))
    got = in_tiles().test_step(batch(size, size))
    for a, b in zip(got, want):
        a, b = a.seg_logits.data, b.seg_logits.data
        assert a.shape == (5, *size)
        assert (a - b).abs().max() < 1e-5 * b.abs().max()
    # Without statistics of the whole, as in windows, it is another result.
    got = in_tiles(halo=32).test_step(batch(size, size))
    a, b = got[0].seg_logits.data, want[0].seg_logits.data
    assert (a - b).abs().max() > 1e-3 * b.abs().max()


def test_pads_by_itself(model, in_tiles, monkeypatch):
    """An odd size without a divisor: as the padded whole, masked."""
    size = 45, 333
    got = in_tiles().test_step(batch(size))[0].seg_logits.data
    pads(model, monkeypatch)
    in_tiles(mode='whole')
    want = model.test_step(batch(size))[0].seg_logits.data
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


def test_resized_back(model, in_tiles):
    """What mmseg does behind the logits stays."""
    data = batch((64, 320), flip=True, flip_direction='horizontal')
    data['data_samples'][0].set_metainfo(dict(ori_shape=(32, 160)))
    want = model.test_step(data)[0].pred_sem_seg.data
    got = in_tiles().test_step(data)[0].pred_sem_seg.data
    assert got.shape == (1, 32, 160)
    assert (got == want).float().mean() > 0.999


@pytest.mark.parametrize('flip', [None, 'horizontal', 'vertical'])
def test_classes_alone(model, in_tiles, flip, monkeypatch):
    pads(model, monkeypatch)
    meta = dict(flip=bool(flip), flip_direction=flip)
    data = batch((45, 333), (45, 333), **meta)
    want = model.test_step(data)
    want = [sample.pred_sem_seg.data.clone() for sample in want]
    data = batch((45, 333), (45, 333), **meta)
    got = in_tiles(keep_logits=False).test_step(data)
    for sample, classes in zip(got, want):
        assert 'seg_logits' not in sample
        assert sample.pred_sem_seg.data.shape == (1, 45, 333)
        assert (sample.pred_sem_seg.data == classes).float().mean() > 0.999


def test_classes_alone_of_a_resized_image(in_tiles):
    data = batch((64, 320))
    data['data_samples'][0].set_metainfo(dict(ori_shape=(32, 160)))
    with pytest.raises(UserError, match=r'an image of \(32, 160\) came as'):
        in_tiles(keep_logits=False).test_step(data)


def test_without_samples(model, in_tiles):
    x = torch.randn(1, 3, 64, 96)
    (want,) = model.predict(x)
    (got,) = in_tiles(keep_logits=False).predict(x)
    assert torch.equal(got.pred_sem_seg.data, want.pred_sem_seg.data)


def test_binary_head(model, in_tiles, monkeypatch):
    logits = torch.tensor([-2.0, -0.2, 0.2, 2.0]).view(1, 1, 1, 4)
    monkeypatch.setattr(model.decode_head, 'threshold', 0.6)
    assert classify(model, logits).flatten().tolist() == [0, 0, 0, 1]


def test_the_note_stays(model, in_tiles, monkeypatch):
    """Who asks behind the tiles gets the batch's own padding."""
    pads(model, monkeypatch)
    data = model.data_preprocessor(batch((45, 333)))
    in_tiles().predict(**data)
    assert pop_sizes(data['inputs']) == [(45, 333)]
    assert pop_sizes(data['inputs']) is None


def test_eanet(monkeypatch):
    """A model without a neck."""
    net = Config.fromfile(
        mmea.config(
            'mobilenet_v2/ea-head_mobilenet-v2-d8_4xb4-160k_ade20k-512x512.py'
        )
    ).model
    net.backbone.update(init_cfg=None, widen_factor=0.25)
    net.data_preprocessor.size = None
    net.decode_head.update(in_channels=80, channels=16, num_classes=5)
    net.auxiliary_head = None
    net.type = 'mmea.EncoderDecoder'
    model = make_lively(net)
    size = 64, 1504
    want = model.test_step(batch(size))[0].seg_logits.data
    model.test_cfg = ConfigDict(mode='exact_tiles', core=256)
    got = model.test_step(batch(size))[0].seg_logits.data
    assert (got - want).abs().max() < 1e-5 * want.abs().max()
    model.test_cfg.halo = 32
    got = model.test_step(batch(size))[0].seg_logits.data
    assert (got - want).abs().max() > 1e-3 * want.abs().max()


def test_bad_options(in_tiles):
    with pytest.raises(UserError, match='test_cfg has cores, which mode='):
        in_tiles(cores=64).test_step(batch((64, 96)))
    with pytest.raises(UserError, match='core must be a multiple of stride'):
        in_tiles(core=100).test_step(batch((64, 96)))
