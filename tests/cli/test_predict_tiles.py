"""mmea predict --tiles: images of any size, with what a whole run finds."""

import csv
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmea.cli.predict import main

pytest.importorskip('mmseg')
rasterio = pytest.importorskip('rasterio')

from rasterio.transform import from_origin  # noqa: E402

from mmea.inference import tile_files  # noqa: E402
from mmea.inference.tiles import segment_in_tiles  # noqa: E402
from tests.small_nets import (  # noqa: E402
    make_small_ea_fpn,
    small_ea_fpn_config,
)

CLASSES = ['wall', 'floor', 'tree', 'sky', 'road']
PALETTE = [[i * 40, 255 - i * 40, i] for i in range(5)]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A folder with a net, its config and images; the classes in these."""
    folder = tmp_path_factory.mktemp('tiles')
    model = make_small_ea_fpn()
    meta = dict(classes=CLASSES, palette=PALETTE, reduce_zero_label=True)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)),
        folder / 'net.pth',
    )
    small_ea_fpn_config().dump(folder / 'net.py')
    image = np.random.default_rng(0).random((70, 1000, 3))
    image = (image * np.linspace(20, 255, 1000)[:, None]).astype(np.uint8)
    cv2.imwrite(str(folder / 'a.png'), image)
    with rasterio.open(
        folder / 'b.tif', 'w', driver='GTiff', height=70, width=1000, count=3,
        dtype='uint8', crs='EPSG:32633', transform=from_origin(4, 9, 2, 2),
    ) as file:  # fmt: skip
        file.write(image.transpose(2, 0, 1)[::-1])
    return folder, segment_in_tiles(model, image, core=256)


@pytest.fixture
def predict(made, tmp_path, monkeypatch, run):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    words = 'net.py net.pth --device cpu --out out --tiles 256'.split()
    return partial(run, main, *words)


def read_png(path):
    return np.array(Image.open(path))


def test_what_is_written(predict, made, monkeypatch, capsys):
    monkeypatch.setattr(tile_files, 'PICTURE', 300)
    predict('a.png', 'b.tif')
    _, want = made
    assert np.array_equal(read_png('out/labels/a.png'), want + 1)
    with rasterio.open('out/labels/b.tif') as file:
        assert np.array_equal(file.read(1), want + 1)
        assert file.transform == from_origin(4, 9, 2, 2)
        assert file.colormap(1)[3][:3] == tuple(PALETTE[2])
    with open('out/summary.csv') as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        share = (want == CLASSES.index(row['class'])).mean()
        assert float(row['share']) == pytest.approx(share, abs=1e-6)
    assert {row['image'] for row in rows} == {'a.png', 'b.tif'}
    for name in 'ab':  # every fourth pixel
        assert cv2.imread(f'out/overlays/{name}.jpg').shape == (18, 250, 3)
    assert not Path('out/.unfinished').exists()
    assert 'left out of the test pipeline: Resize' in capsys.readouterr().out


def test_a_turned_tiff(predict, made):
    """Stored on its side, with the tag that says so."""
    side = np.rot90(read_png('a.png'))
    Image.fromarray(side).save('c.tif', tiffinfo={274: 6})
    predict('c.tif')
    assert np.array_equal(read_png('out/labels/c.png'), made[1] + 1)


def test_a_grey_loader(predict):
    """What it reads has no axis of channels; the net takes three."""
    text = Path('net.py').read_text()
    old = "type='LoadImageFromFile'"
    new = f"color_type='grayscale', {old}"
    Path('net.py').write_text(text.replace(old, new))
    grey = cv2.imread('a.png', cv2.IMREAD_GRAYSCALE)
    image = np.repeat(grey[..., None], 3, axis=2)
    predict('a.png')
    want = segment_in_tiles(make_small_ea_fpn(), image, core=256)
    assert np.array_equal(read_png('out/labels/a.png'), want + 1)


def test_goes_on(predict, made, monkeypatch):
    """Stopped in the second image, and started again."""
    whole = tile_files.segment_in_tiles
    calls = []

    def stop(model, image, on_tile, **kwargs):
        def count(done, total):
            on_tile(done, total)
            calls.append(done)
            if len(calls) == 15:
                raise KeyboardInterrupt

        return whole(model, image, on_tile=count, **kwargs)

    monkeypatch.setattr(tile_files, 'segment_in_tiles', stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        predict('a.png', 'b.tif')
    # Three passes of four tiles.
    assert calls == [*range(1, 13), 1, 2, 3]
    predict('a.png', 'b.tif')
    assert calls[15:] == [*range(4, 13)]
    with rasterio.open('out/labels/b.tif') as file:
        assert np.array_equal(file.read(1), made[1] + 1)
    assert np.array_equal(read_png('out/labels/a.png'), made[1] + 1)


def test_what_is_left_alone(predict, monkeypatch):
    """Another's files; and how far an image is, whose prediction failed."""
    Path('out/.unfinished/mine').mkdir(parents=True)
    Path('out/.unfinished/mine/thesis.txt').write_text('all of it')
    whole = tile_files.segment_in_tiles

    def fail(model, image, on_tile, **kwargs):
        def count(done, total):
            on_tile(done, total)
            if done == 5:
                raise MemoryError

        return whole(model, image, on_tile=count, **kwargs)

    monkeypatch.setattr(tile_files, 'segment_in_tiles', fail)
    with pytest.raises(SystemExit):
        predict('a.png')
    monkeypatch.setattr(tile_files, 'segment_in_tiles', whole)
    predict('b.tif')
    kept = {str(p) for p in Path('out/.unfinished').rglob('*') if p.is_file()}
    assert kept == {
        f'out/.unfinished/{name}'
        for name in ('.lock', 'mine/thesis.txt', 'a.png/state.npz')
    }


def test_one_at_a_time(predict, capsys):
    Path('out/.unfinished').mkdir(parents=True)
    code = (
        'from mmea.engine.lock import lock_folder; import time\n'
        "lock = lock_folder('out/.unfinished', 'prediction')\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == 'held\n'
        with pytest.raises(SystemExit) as end:
            predict('a.png')
        other.kill()
    error = capsys.readouterr().err + str(end.value)
    assert 'another prediction works in out/.unfinished' in error


def test_a_folder_with_jpeg_2000(predict, made):
    Path('photos').mkdir()
    image = cv2.imread('a.png')
    cv2.imwrite('photos/a.JP2', image, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000,
                1000])  # fmt: skip
    predict('photos')
    with rasterio.open('out/labels/a.tif') as file:
        assert (file.read(1) == made[1] + 1).mean() > 0.99


def test_without_rasterio(predict, made, monkeypatch, capsys):
    monkeypatch.setattr(tile_files, 'find_spec', lambda name: None)
    predict('b.tif')
    assert 'the extra "tiles" brings it' in capsys.readouterr().out
    assert np.array_equal(read_png('out/labels/b.png'), made[1] + 1)


def test_broken_files_have_a_line_each(predict, capsys):
    Path('c.tif').write_text('no image')
    Path('d.png').write_text('no image')
    with pytest.raises(SystemExit):
        predict('c.tif', 'a.png', 'd.png')
    error = capsys.readouterr().err
    assert 'left out: cannot read c.tif' in error and 'd.png' in error
    assert Path('out/labels/a.png').exists()


@pytest.mark.parametrize(
    ('words', 'error'),
    [
        (['a.png', '--tiles', '100'], 'core must be a multiple of stride=32'),
        (['a.png', '--tiles', '0'], 'at least 32, got core=0'),
        (['--tiles', 'a.png'], "'a.png' is no number of pixels; name inputs"),
        (['a.mp4'], '--tiles takes images, got a.mp4'),
        (['a.png', '--batch-size', '2'], '--batch-size 2 is of no use with'),
    ],
)
def test_bad_words(predict, words, error, capsys):
    Path('a.mp4').write_bytes(b'')
    with pytest.raises(SystemExit) as end:
        predict(*words)
    assert error in capsys.readouterr().err + str(end.value)


def test_mode_of_a_segmentor_of_mmseg(predict, run, capsys):
    cfg = small_ea_fpn_config()
    cfg.model.test_cfg = dict(mode='exact_tiles')
    cfg.dump('other.py')
    with pytest.raises(SystemExit) as end:
        run(main, 'other.py', 'net.pth', 'a.png', '--out', 'out')
    error = capsys.readouterr().err + str(end.value)
    assert "set model.type='mmea.EncoderDecoder'" in error
