"""Tiles of a small EA-FPN give the numbers of one run."""

import errno
import os
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from mmea.errors import UserError

pytest.importorskip('mmseg')

from mmea.inference.tiles import (  # noqa: E402
    find_halo,
    segment_in_tiles,
    tile_logits,
)
from mmea.layers import SelfAttention2d  # noqa: E402
from mmea.models.padding_mask import note_sizes  # noqa: E402
from mmea.models.segmentors.tile_probe import (  # noqa: E402
    encode_decode,
    find_stride,
)
from tests.small_nets import make_small_ea_fpn  # noqa: E402

SIZE = 70, 1000  # neither on the stride


@pytest.fixture(scope='module')
def model():
    return make_small_ea_fpn()


@pytest.fixture(scope='module')
def image():
    rng = np.random.default_rng(0)
    # Brighter to the right, so that parts have statistics of their own.
    light = np.linspace(20, 255, SIZE[1])[None, :, None]
    return (rng.random((*SIZE, 3)) * light).astype(np.uint8)


@pytest.fixture(scope='module')
def whole(model, image):
    """Logits of one run, as of a preprocessor that pads to 32 pixels."""
    prepare = model.data_preprocessor
    x = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None]
    x = (x - prepare.mean) / prepare.std
    x = nn.functional.pad(x, (0, -SIZE[1] % 32, 0, -SIZE[0] % 32))
    note_sizes(x, [SIZE])
    with torch.no_grad():
        return encode_decode(model, x)[0, :, : SIZE[0], : SIZE[1]]


def error(model, image, whole, **options):
    got = torch.full_like(whole, torch.nan)
    for rows, columns, logits in tile_logits(model, image, **options):
        got[:, rows, columns] = logits
    assert not got.isnan().any()
    return ((got - whole).abs().max() / whole.abs().max()).item()


def test_equals_one_run(model, image, whole):
    assert error(model, image, whole, core=256) < 1e-5
    # And less than it takes is seen.
    assert find_halo(model) > 64
    assert error(model, image, whole, core=256, halo=64) > 1e-3


def test_classes_in_a_file(model, image, whole, tmp_path):
    path = tmp_path / 'classes.npy'
    got = segment_in_tiles(model, image, core=512, out=path)
    assert np.array_equal(np.load(path), got)
    first, second = whole.topk(2, 0)[0]
    clear = (first - second > 1e-4 * whole.abs().max()).numpy()
    assert clear.mean() > 0.9 and len(np.unique(got)) > 1
    assert np.array_equal(got[clear], whole.argmax(0).numpy()[clear])


class Mean(nn.Module):
    """Sees all, in a way that no type tells."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        return x + self.act(x).mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ('part', 'error'),
    [
        (nn.GroupNorm(2, 16), 'GroupNorm, is not known to see a window alone'),
        (nn.AdaptiveAvgPool2d(1), 'AdaptiveAvgPool2d, pools the whole map'),
        (nn.Upsample(scale_factor=2, align_corners=True), 'align_corners='),
        (SelfAttention2d(16), 'SelfAttention2d, reads other tokens'),
        (nn.BatchNorm2d(16, track_running_stats=False), 'statistics of its'),
        (nn.Sequential(Mean()), 'a pixel of the image reaches 1024 pixels'),
    ],
)
def test_refused_parts(model, image, part, error, monkeypatch):
    head = model.decode_head
    inner = nn.Sequential(part, head.attention).eval()
    monkeypatch.setitem(head._modules, 'attention', inner)
    with pytest.raises(UserError, match=error):
        segment_in_tiles(model, image)


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        (dict(core=100), 'core must be a multiple of stride=32, at least 32'),
        (dict(core=0), 'got core=0'),
        (dict(halo=33), 'got halo=33'),
        (dict(core=64.0), 'got core=64.0'),
        (dict(stride=0), 'stride must be an int of 1 or more'),
    ],
)
def test_refused_arguments(model, image, options, error):
    with pytest.raises(UserError, match=error):
        segment_in_tiles(model, image, **{'halo': 0, **options})


def test_refused_models_and_images(model, image):
    with pytest.raises(UserError, match='EncoderDecoder of mmseg, got a ReLU'):
        segment_in_tiles(nn.ReLU(), image)
    with pytest.raises(UserError, match=r'\(H, W, 3\) of uint8, got ndarray'):
        segment_in_tiles(model, image[..., 0])
    with pytest.raises(UserError, match=r'got ndarray \(70, 1000, 2\)'):
        segment_in_tiles(model, image[..., :2])
    with pytest.raises(UserError, match='got str'):
        segment_in_tiles(model, 'a.png')
    upsample = dict(mode='bilinear', align_corners=True)
    neck = model.neck[0]
    neck.upsample_cfg, before = upsample, neck.upsample_cfg
    with pytest.raises(UserError, match='neck.0, a FPN, has align_corners'):
        segment_in_tiles(model, image)
    neck.upsample_cfg = before
    model.train()
    with pytest.raises(UserError, match=r'call eval\(\)'):
        segment_in_tiles(model, image)
    model.eval()


class Stop(Exception):
    pass


def stop_after(number):
    def on_tile(done, total):
        if done == number:
            raise Stop

    return on_tile


def test_goes_on_where_it_stopped(model, image, tmp_path):
    """Killed in each of the passes, with the classes of one piece."""
    want = segment_in_tiles(model, image, core=256)
    seen = []

    def count(done, total):
        seen.append((done, total))

    files = dict(out=tmp_path / 'a.npy', resume=tmp_path / 'a.npz', core=256)
    for number in (2, 5, 7, 10):
        with pytest.raises(Stop):
            segment_in_tiles(model, image, on_tile=stop_after(number), **files)
    got = segment_in_tiles(model, image, on_tile=count, **files)
    assert np.array_equal(got, want)
    # Three passes of four tiles: two layers behind each other.
    assert seen == [(11, 12), (12, 12)]
    # All is done.
    seen.clear()
    got = segment_in_tiles(model, image, on_tile=count, **files)
    assert np.array_equal(got, want) and not seen


@pytest.mark.parametrize('changed', ['weights', 'tiles', 'size', 'file'])
def test_other_work_begins_anew(model, image, tmp_path, changed, monkeypatch):
    files = dict(out=tmp_path / 'a.npy', resume=tmp_path / 'a.npz')
    with pytest.raises(Stop):
        segment_in_tiles(
            model, image, core=256, on_tile=stop_after(10), **files
        )
    core = 256
    if changed == 'weights':
        memory = model.decode_head.attention.value_memory
        monkeypatch.setattr(memory, 'data', -memory.data)
    elif changed == 'tiles':
        core = 512
    elif changed == 'size':
        image = np.ascontiguousarray(image[:, :900])
    else:
        (tmp_path / 'a.npy').unlink()
    want = segment_in_tiles(model, image, core=core)
    got = segment_in_tiles(model, image, core=core, **files)
    assert np.array_equal(got, want)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    'damage',
    [
        lambda state, classes: cut(state),
        lambda state, classes: state.write_bytes(b''),
        lambda state, classes: cut(classes),
        lambda state, classes: classes.write_bytes(b''),
        lambda state, classes: np.save(classes, np.zeros((9, 9), np.uint8)),
    ],
)
def test_damaged_files_begin_anew(model, image, tmp_path, damage):
    files = dict(out=tmp_path / 'a.npy', resume=tmp_path / 'a.npz', core=512)
    with pytest.raises(Stop):
        segment_in_tiles(model, image, on_tile=stop_after(5), **files)
    damage(files['resume'], files['out'])
    got = segment_in_tiles(model, image, **files)
    assert np.array_equal(got, segment_in_tiles(model, image, core=512))


def test_another_preparation_begins_anew(model, image, tmp_path, monkeypatch):
    """mean and std are in no state_dict."""
    files = dict(out=tmp_path / 'a.npy', resume=tmp_path / 'a.npz', core=512)
    with pytest.raises(Stop):
        segment_in_tiles(model, image, on_tile=stop_after(5), **files)
    mean = model.data_preprocessor.mean
    monkeypatch.setattr(model.data_preprocessor, 'mean', mean + 60)
    got = segment_in_tiles(model, image, **files)
    assert np.array_equal(got, segment_in_tiles(model, image, core=512))


def test_room_on_the_disk_is_taken_at_once(
    model, image, tmp_path, monkeypatch
):
    """A hole that cannot be filled would end Python by a signal."""

    def full(file, start, length):
        assert length > image.shape[0] * image.shape[1]
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'posix_fallocate', full)
    with pytest.raises(OSError, match='No space left'):
        segment_in_tiles(model, image, core=512, out=tmp_path / 'a.npy')


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_halo_in_half_precision(model, half):
    want = find_halo(model)
    assert find_halo(deepcopy(model).to(half)) == want
    with torch.autocast('cpu', torch.bfloat16):
        assert find_halo(deepcopy(model)) == want


def test_weights_that_are_nan(model):
    broken = deepcopy(model)
    broken.decode_head.conv_seg.weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match='the model gives NaN: look at its'):
        find_halo(broken)


def test_a_stride_that_is_too_small(image):
    """Of a pyramid with one level more, with maps of stride 64."""

    def deeper(net):
        net.neck[0].num_outs = 5
        net.neck[1].in_channels = [16] * 5
        net.decode_head.update(
            in_channels=[16] * 5, in_index=[0, 1, 2, 3, 4],
            feature_strides=[4, 8, 16, 32, 64],
        )  # fmt: skip

    model = make_small_ea_fpn(change=deeper)
    with pytest.raises(UserError, match='stride=32 and a map of stride 64'):
        segment_in_tiles(model, image, stride=32)
    assert find_stride(model) == 64
    got = segment_in_tiles(model, image, core=256)
    want = segment_in_tiles(model, image, core=1024)
    assert np.array_equal(got, want)


def test_resume_needs_a_file_of_classes(model, image, tmp_path):
    with pytest.raises(UserError, match='resume needs out'):
        segment_in_tiles(model, image, resume=tmp_path / 'a.npz')
