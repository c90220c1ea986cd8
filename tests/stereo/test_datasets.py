"""PFM files, the data sets of pairs, and their batches."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mmea.errors import UserError
from mmea.registry import DATASETS, MODELS
from mmea.stereo import read_pfm
from tests.test_real_data import DATA

RNG = np.random.default_rng(0)


def build(kind, root, *args, **kwargs):
    if args:
        kwargs['split'] = args[0]
    return DATASETS.build(
        dict(type=f'mmea.{kind}', data_root=str(root), **kwargs)
    )


def write_pfm(path, values, order='<'):
    values = np.asarray(values, np.float32)
    kind = 'PF' if values.ndim == 3 else 'Pf'
    scale = -1.0 if order == '<' else 1.0
    head = f'{kind}\n{values.shape[1]} {values.shape[0]}\n{scale}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        head.encode() + values[::-1].astype(f'{order}f4').tobytes()
    )


def write_image(path, size=(9, 13)):
    """An image of noise, RGB; returned as it is read."""
    image = RNG.integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return image


class TestPFM:
    @pytest.mark.parametrize('order', ['<', '>'])
    @pytest.mark.parametrize('shape', [(3, 5), (1, 1), (2, 4, 3)])
    def test_reads_either_order_from_the_last_row_on(
        self, tmp_path, order, shape
    ):
        values = RNG.normal(size=shape).astype(np.float32)
        values.flat[0] = np.inf
        write_pfm(tmp_path / 'a.pfm', values, order)
        got = read_pfm(tmp_path / 'a.pfm')
        assert got.dtype == np.float32 and got.flags.writeable
        np.testing.assert_array_equal(got, values)

    def test_bytes_written_by_hand(self, tmp_path):
        path = tmp_path / 'a.pfm'
        # 2.0 in the lower row, 1.0 in the upper one, big-endian.
        path.write_bytes(b'Pf\n1 2\n1.0\n' + b'\x40\0\0\0' + b'\x3f\x80\0\0')
        assert read_pfm(path).tolist() == [[1.0], [2.0]]
        path.write_bytes(path.read_bytes().replace(b'1.0\n', b'1e0\r\n'))
        assert read_pfm(path).tolist() == [[1.0], [2.0]]

    @pytest.mark.parametrize(
        'data, words',
        [
            (b'P5\n1 1\n255\n\0', 'is no PFM: it must begin with Pf'),
            (b'', 'is no PFM'),
            (b'Pf\n1 1\n--1\n' + bytes(4), 'is no PFM'),
            (b'Pf\n2 2\n-1\n' + bytes(12), 'has 12 bytes .* take 16; fetch'),
            (None, 'cannot read .*a.pfm: No such file'),
        ],
    )
    def test_names_a_bad_file(self, tmp_path, data, words):
        if data is not None:
            (tmp_path / 'a.pfm').write_bytes(data)
        with pytest.raises(UserError, match=words):
            read_pfm(tmp_path / 'a.pfm')


class TestMiddlebury:
    def test_reads_folders_and_flat_pairs(self, tmp_path):
        truths = {}
        for name, kind in (('b', 'disp0.pfm'), ('a', 'disp0GT.pfm')):
            folder = tmp_path / 'training' / name
            images = [write_image(folder / f'im{i}.png') for i in (0, 1)]
            truth = RNG.uniform(0, 9, (9, 13)).astype(np.float32)
            truth[2, 3] = np.inf
            write_pfm(folder / kind, truth)
            truths[str(folder / 'im0.png')] = images, truth
        left = tmp_path / 'training' / 'c_left.png'
        images = [
            write_image(left),
            write_image(left.with_name('c_right.png')),
        ]
        truth = RNG.uniform(0, 9, (9, 13)).astype(np.float32)
        np.savez(left.with_name('c_disp.npz'), truth)
        truths[str(left)] = images, truth
        data = build('Middlebury', tmp_path, 'training')
        assert len(data) == 3
        for item in data:
            sample = item['data_samples']
            images, truth = truths.pop(sample.img_path)
            want = np.stack(images).transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(item['inputs'].numpy(), want)
            got = sample.gt_disparity.numpy()
            assert got.dtype == np.float32
            known = np.isfinite(truth)
            np.testing.assert_array_equal(got[known], truth[known])
            assert np.isnan(got[~known]).all()
        assert not truths

    def test_without_truth(self, tmp_path):
        for i in (0, 1):
            write_image(tmp_path / 'a' / f'im{i}.png')
        [item] = build('Middlebury', tmp_path)
        assert 'gt_disparity' not in item['data_samples']

    def test_crop_is_one_of_all_planes(self, tmp_path):
        for i in (0, 1):
            write_image(tmp_path / 'a' / f'im{i}.png')
        truth = np.arange(9 * 13, dtype=np.float32).reshape(9, 13)
        write_pfm(tmp_path / 'a' / 'disp0.pfm', truth)
        whole = build('Middlebury', tmp_path)[0]
        data = build('Middlebury', tmp_path, crop_size=(4, 6))
        places = set()
        np.random.seed(0)
        for _ in range(200):
            item = data[0]
            got = item['data_samples'].gt_disparity
            top, left = divmod(int(got[0, 0]), 13)
            places.add((top, left))
            area = slice(top, top + 4), slice(left, left + 6)
            assert torch.equal(item['inputs'], whole['inputs'][(..., *area)])
            np.testing.assert_array_equal(got.numpy(), truth[area])
        assert {p[0] for p in places} == set(range(6))
        assert {p[1] for p in places} == set(range(8))

    def test_scale_is_that_of_disparities_too(self, tmp_path):
        for i in (0, 1):
            write_image(tmp_path / 'a' / f'im{i}.png', (8, 14))
        truth = RNG.uniform(1, 9, (8, 14)).astype(np.float32)
        truth[2, 4] = np.nan
        write_pfm(tmp_path / 'a' / 'disp0.pfm', truth)
        whole = build('Middlebury', tmp_path)[0]['inputs'].float()
        item = build('Middlebury', tmp_path, scale=0.5)[0]
        got = item['data_samples'].gt_disparity.numpy()
        np.testing.assert_array_equal(got, truth[::2, ::2] / 2)
        mean = torch.nn.functional.avg_pool2d(whole, 2)
        assert (item['inputs'] - mean).abs().max() <= 0.5

    @pytest.mark.parametrize(
        'change, kwargs, words',
        [
            ('right', {}, 'must be of one size'),
            ('gone', {}, 'cannot read .*im1.png: No such file'),
            ('text', {}, 'im1.png is no image'),
            ('unknown', {}, 'some of them finite, got .* 0 finite'),
            ('sign', {}, 'disp0.pfm holds disparities below 0 alone'),
            ('', dict(crop_size=(9, 14)), r'\(9, 13\) pixels, fewer than'),
        ],
    )
    def test_names_a_bad_pair(self, tmp_path, change, kwargs, words):
        folder = tmp_path / 'a'
        write_image(folder / 'im0.png')
        if change != 'gone':
            size = (9, 12) if change == 'right' else (9, 13)
            write_image(folder / 'im1.png', size)
        if change == 'text':
            (folder / 'im1.png').write_text('no')
        value = dict(unknown=np.nan, sign=-3).get(change, 3)
        write_pfm(folder / 'disp0.pfm', np.full((9, 13), value))
        with pytest.raises(UserError, match=words):
            build('Middlebury', tmp_path, **kwargs)[0]

    def test_damaged_truth(self, tmp_path):
        for name in ('im0.png', 'im1.png'):
            write_image(tmp_path / 'a' / name)
        (tmp_path / 'a/disp0.npz').write_bytes(b'no')
        # numpy's own words advise to unpickle the file.
        with pytest.raises(UserError, match='disp0.npz: it is damaged'):
            build('Middlebury', tmp_path)[0]
        two = dict(disparity=np.ones((9, 13)), mask=np.ones((9, 13)))
        np.savez(tmp_path / 'a/disp0.npz', **two)
        with pytest.raises(
            UserError, match='several arrays, disparity, mask;'
        ):
            build('Middlebury', tmp_path)[0]

    def test_names_a_bad_folder(self, tmp_path):
        with pytest.raises(UserError, match='no folder.*holds Middlebury'):
            build('Middlebury', tmp_path / 'gone')
        with pytest.raises(UserError, match=r'no pair .* \*/im0.png'):
            build('Middlebury', tmp_path)
        for kwargs, words in (
            (dict(crop_size=(4,)), r'crop_size must be \(h, w\)'),
            (dict(crop_size=(4, 0)), 'crop_size must be an int >= 1'),
            (dict(scale=0), 'scale must be above 0'),
        ):
            with pytest.raises(ValueError, match=words):
                build('Middlebury', tmp_path, **kwargs)


class TestSceneFlow:
    def test_reads_the_three_parts(self, tmp_path):
        names = {
            'things/frames_cleanpass/TRAIN/A/0000/left/0006.png': 'train',
            'things/frames_cleanpass/TEST/B/0001/left/0007.png': 'test',
            'frames_cleanpass/a_rain/left/0000.png': 'train',
            'driving_frames_cleanpass/15mm/slow/left/0001.webp': 'train',
            'things/frames_finalpass/TEST/C/0000/left/0009.png': 'final',
        }
        want = {'train': {}, 'test': {}, 'final': {}}
        for i, (name, split) in enumerate(names.items()):
            left = tmp_path / name
            images = [
                write_image(left),
                write_image(tmp_path / name.replace('/left/', '/right/')),
            ]
            truth = tmp_path / name.replace(
                'frames_cleanpass', 'disparity'
            ).replace('frames_finalpass', 'disparity')
            write_pfm(truth.with_suffix('.pfm'), np.full((9, 13), i))
            want[split][str(left)] = i, images
        for split, kwargs in (
            ('train', dict(split='train')),
            ('test', dict(split='test')),
            ('final', dict(split='test', render='finalpass')),
        ):
            data = build('SceneFlow', tmp_path, **kwargs)
            for item in data:
                sample = item['data_samples']
                i, images = want[split].pop(sample.img_path)
                assert sample.gt_disparity.eq(i).all()
                if sample.img_path.endswith('.png'):
                    for got, image in zip(item['inputs'], images):
                        assert np.array_equal(got.permute(1, 2, 0), image)
        assert not any(want.values())

    def test_names_what_is_missing(self, tmp_path):
        with pytest.raises(UserError, match='train.*frames_cleanpass/.*left'):
            build('SceneFlow', tmp_path, 'train')
        with pytest.raises(ValueError, match='split must be one of train, te'):
            build('SceneFlow', tmp_path, 'val')
        for side in ('left', 'right'):
            write_image(tmp_path / 'frames_cleanpass/a' / side / '1.png')
        with pytest.raises(
            UserError, match='cannot read .*disparity/a/left/1'
        ):
            build('SceneFlow', tmp_path, 'train')[0]


def test_a_real_pair():
    root = DATA / 'stereo'
    if not root.is_dir():
        pytest.skip(f'no real data: {root} is missing; set MMEA_DATA')
    [item] = build('Middlebury', root)
    truth = item['data_samples'].gt_disparity
    known = truth.isfinite()
    assert item['inputs'].shape == (2, 3, 500, 741)
    assert known.float().mean() == pytest.approx(0.9265, abs=1e-4)
    # The views agree where the disparity says so.
    left, right = item['inputs'].float().mean(1)
    y, x = known.nonzero(as_tuple=True)
    there = (x - truth[known]).round().long()
    inside = there >= 0
    error = (left[y, x] - right[y, there.clamp(min=0)]).abs()[inside]
    apart = (left[y, x] - right[y, (there + 9).clamp(0, 740)]).abs()[inside]
    assert error.median() < 8 and 3 * error.median() < apart.median()


class TestPreprocessor:
    def test_normalises(self):
        build = MODELS.build(dict(type='mmea.StereoDataPreprocessor'))
        pairs = [
            torch.full((2, 3, 4, 5), v, dtype=torch.uint8) for v in (0, 9)
        ]
        out = build(dict(inputs=pairs))
        assert out['data_samples'] is None
        assert out['inputs'].shape == (2, 2, 3, 4, 5)
        for i, value in enumerate((0, 9)):
            for c, (mean, std) in enumerate(
                ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
            ):
                want = torch.tensor((value / 255 - mean) / std)
                got = out['inputs'][i, :, c]
                torch.testing.assert_close(got, want.expand(2, 4, 5))

    def test_names_a_pair_that_does_not_fit(self):
        build = MODELS.build(dict(type='mmea.StereoDataPreprocessor'))
        samples = [BaseDataElement(metainfo=dict(img_path='a.png'))] * 2
        for shapes, words in (
            ([(2, 3, 4, 5), (2, 3, 4, 6)], r'a.png has \(4, 6\) pixels'),
            ([(6, 4, 5), (6, 4, 5)], r'a.png must be \(2, 3, H, W\)'),
        ):
            pairs = [torch.zeros(shape) for shape in shapes]
            with pytest.raises(UserError, match=words):
                build(dict(inputs=pairs, data_samples=samples))
        with pytest.raises(ValueError, match='std must be three'):
            MODELS.build(
                dict(type='mmea.StereoDataPreprocessor', std=(1.0, 2.0))
            )
