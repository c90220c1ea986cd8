"""The maps lie right over the photograph, however it was prepared."""

import numpy as np
import pytest
import torch
from torch import nn

from mmea.errors import UserError
from mmea.layers import MultiheadExternalAttention
from mmea.visualize.data import labels_on_map
from mmea.visualize.view import Frame, look

pytest.importorskip('mmseg')


class Net(nn.Module):
    """Slot 0 looks at what is bright, at stride 2."""

    def __init__(self, pad):
        super().__init__()
        from mmea.registry import MODELS

        self.data_preprocessor = MODELS.build(
            dict(
                type='mmea.SegDataPreProcessor',
                mean=[0.0] * 3,
                std=[1.0] * 3,
                test_cfg=dict(size_divisor=pad) if pad else None,
            )
        )
        self.attention = MODELS.build(
            dict(type='mmea.ExternalAttention2d', in_channels=3, num_slots=2)
        )
        self.test_cfg = dict(mode='slide')
        nn.init.dirac_(self.attention.in_proj.weight)
        nn.init.zeros_(self.attention.in_proj.bias)
        nn.init.constant_(self.attention.key_memory[0], 0.02)
        nn.init.constant_(self.attention.key_memory[1], 0.0)

    def forward(self, inputs, data_samples, mode):
        assert mode == 'predict'
        assert self.test_cfg['mode'] == 'whole'
        return self.attention(nn.functional.avg_pool2d(inputs, 2))


def make_predictor(steps, pad=None):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmea.inference import Predictor

    init_default_scope('mmseg')
    pipeline = [
        dict(type='LoadImageFromFile'), *steps, dict(type='PackSegInputs')
    ]  # fmt: skip
    loader = dict(dataset=dict(type='ADE20KDataset', pipeline=pipeline))
    cfg = Config(dict(default_scope='mmseg', test_dataloader=loader))
    return Predictor(Net(pad), cfg, {})


def make_image():
    """Dark, of 45 x 83, with a bright corner at the lower right."""
    image = np.full((45, 83, 3), 10, np.uint8)
    image[35:, 68:] = 250
    return image


@pytest.mark.parametrize(
    ('steps', 'pad'),
    [
        ([], None),
        ([dict(type='Resize', scale=(120, 60), keep_ratio=True)], 32),
        ([dict(type='Resize', scale=(60, 70), keep_ratio=False),
          dict(type='Pad', size_divisor=32)], None),
    ],
    ids=['as it is', 'resized, padded by the preprocessor', 'padded'],
)  # fmt: skip
def test_the_bright_corner_is_where_it_was(steps, pad):
    predictor = make_predictor(steps, pad)
    view = look(predictor, make_image())
    assert predictor.model.test_cfg['mode'] == 'slide'
    assert view.picture.shape == (45, 83, 3)
    (maps,) = view.maps['attention']
    laid = view.lay(maps.attention[0, 0].numpy())
    assert laid.shape == (45, 83)
    bright, dark = laid[38:, 71:], np.delete(laid, np.s_[66:], 1)
    assert bright.min() > 1.5 * dark.max()
    assert laid[:32].max() < bright.min()
    # Half way up, the border is within two pixels of its place.
    half = (bright.mean() + dark.mean()) / 2
    assert abs(np.flatnonzero(laid[42] > half)[0] - 68) <= 2
    assert abs(np.flatnonzero(laid[:, 78] > half)[0] - 35) <= 2
    if pad:  # the preprocessor tells the layer
        rows, columns = maps.mask[0].any(1).sum(), maps.mask[0].any(0).sum()
        assert (int(rows), int(columns)) == (30, 56)


def test_a_crop_of_the_centre():
    # 45 x 83 resized to 90 x 166, of which the middle 64 x 64 is seen.
    frame = Frame((64, 64), (45, 83), (90, 166), (13, 51), (64, 64))
    laid = frame.lay(np.ones((4, 4)))
    rows, columns = np.nonzero(~np.isnan(laid))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
        *(6, 37), *(26, 57),
    )  # fmt: skip
    assert frame.find(41, 22) == pytest.approx((0.5, 0.5), abs=0.01)
    with pytest.raises(UserError, match='the net sees x from 26 to 57'):
        frame.find(3, 22)


def test_pixel_of_the_photograph():
    # 40 x 60 doubled, then padded to 96 x 128.
    frame = Frame((96, 128), (40, 60), (80, 120), (0, 0), (80, 120))
    row, column = frame.find(30, 0)
    assert row == pytest.approx(1 / 96)
    assert column == pytest.approx(61 / 128)


def test_labels_at_the_pixels_of_a_map():
    frame = Frame((64, 64), (40, 60), (40, 60), (0, 0), (40, 60))
    labels = torch.arange(40)[:, None] * 100 + torch.arange(60)
    got = labels_on_map(labels, frame, (4, 4))
    rows, columns = (8, 24), (8, 24, 40, 56)
    want = torch.full((4, 4), -1)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            want[i, j] = row * 100 + column
    # The third row's centre is at 40, the first of the padding.
    assert torch.equal(got, want)
    labels[8, 8] = -1
    assert labels_on_map(labels, frame, (4, 4))[0, 0] == 255


def test_tokens_take_the_shape_of_the_image():
    class Tokens(Net):
        def __init__(self):
            super().__init__(None)
            self.attention = MultiheadExternalAttention(3, 1, batch_first=True)

        def forward(self, inputs, data_samples, mode):
            patches = nn.functional.avg_pool2d(inputs, 8, ceil_mode=True)
            return self.attention(patches.flatten(2).transpose(1, 2))

    predictor = make_predictor([])
    predictor.model = Tokens()
    view = look(predictor, make_image())
    (maps,) = view.maps['attention']
    assert maps.slots.shape[2:] == (6, 11)
