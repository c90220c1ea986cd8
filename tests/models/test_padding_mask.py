import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmea.models import build_attention
from mmea.models import padding_mask as padding
from mmea.models.padding_mask import current_mask, note_sizes


@pytest.fixture(autouse=True)
def forget():
    yield
    padding._notes.clear()


def test_mask_of_every_stride():
    batch = torch.zeros(2, 3, 64, 96)
    note_sizes(batch, [(64, 50), (33, 96)])
    for stride in (1, 4, 8, 32):
        size = 64 // stride, 96 // stride
        mask = current_mask(torch.zeros(2, 5, *size))
        # A token is valid if its upper left pixel is.
        rows = torch.arange(0, 64, stride)[:, None]
        columns = torch.arange(0, 96, stride)[None]
        assert torch.equal(mask[0], (columns < 50).expand(size))
        assert torch.equal(mask[1], (rows < 33).expand(size))


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_some_token_is_always_valid(size, grid):
    batch = torch.zeros(1, 3, 70, 70)
    note_sizes(batch, [size])
    mask = current_mask(torch.zeros(1, 2, *grid))
    if size == (70, 70):
        assert mask is None
        return
    assert mask[0, 0, 0]
    # A rectangle from the upper left, as large as the image asks for.
    rows, columns = mask[0].any(1).sum(), mask[0].any(0).sum()
    assert mask.sum() == rows * columns and mask[0, :rows, :columns].all()
    for count, own, whole in zip((rows, columns), size, grid):
        assert (count - 1) * 70 < own * whole <= count * 70


def test_no_mask_without_a_reason():
    x = torch.zeros(2, 5, 8, 8)
    assert current_mask(x) is None
    batch = torch.zeros(2, 3, 64, 64)
    note_sizes(batch, [(64, 64), (64, 64)])
    assert current_mask(x) is None, 'no padding'
    note_sizes(batch, [(64, 64), (64, 60)])
    assert current_mask(x) is not None
    assert current_mask(torch.zeros(3, 5, 8, 8)) is None, 'other images'
    note_sizes(batch)
    assert current_mask(x) is None, 'switched off'
    note_sizes(batch, [(64, 64), (64, 60)])
    del batch
    gc.collect()
    assert current_mask(x) is None, 'the batch has gone'


@pytest.mark.parametrize('name', ['ExternalAttention2d', 'SelfAttention2d'])
def test_registered_layers_take_the_mask(name):
    torch.manual_seed(0)
    layer = build_attention(
        dict(type=f'mmea.{name}', zero_init=False), in_channels=6
    ).eval()
    x = torch.randn(2, 6, 8, 8)
    batch = torch.zeros(2, 3, 64, 64)
    without = layer(x)
    note_sizes(batch, [(64, 40), (64, 64)])
    y = layer(x)
    assert torch.equal(y[0, :, :, 5:], x[0, :, :, 5:])
    torch.testing.assert_close(y[0:1, :, :, :5], layer_of_crop(layer, x))
    torch.testing.assert_close(y[1], without[1])
    # A mask of the caller's own comes first.
    own = torch.ones(2, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(layer(x, own), without)
    # Regions have no padding, even if there are as many as images.
    regions = build_attention(
        dict(type=f'mmea.{name}', zero_init=False),
        in_channels=6,
        padded=False,
    )
    regions.load_state_dict(layer.state_dict())
    torch.testing.assert_close(regions.eval()(x), without)


def layer_of_crop(layer, x):
    padding._notes.clear()
    return layer(x[0:1, :, :, :5])


class TestSeveralBatchesBeforeTheFirstForward:
    """As MultiBranchDataPreprocessor prepares them for SoftTeacher."""

    def test_no_mask_of_another_batch(self):
        whole, padded = (torch.zeros(2, 3, 64, 64) for _ in range(2))
        note_sizes(whole)
        note_sizes(padded, [(64, 64), (32, 64)])
        assert current_mask(torch.zeros(2, 5, 8, 8)) is None
        # The next iteration: what was noted before is over.
        note_sizes(padded, [(64, 64), (32, 64)])
        mask = current_mask(torch.zeros(2, 5, 8, 8))
        assert mask.sum((1, 2)).tolist() == [64, 32]

    def test_the_number_of_images_tells(self):
        two, three = torch.zeros(2, 3, 64, 64), torch.zeros(3, 3, 64, 64)
        note_sizes(two)
        note_sizes(three, [(64, 64), (32, 64), (64, 16)])
        assert current_mask(torch.zeros(2, 5, 8, 8)) is None
        mask = current_mask(torch.zeros(3, 5, 8, 8))
        assert mask.sum((1, 2)).tolist() == [64, 32, 16]

    def test_a_batch_that_has_gone_does_not_count(self):
        gone, batch = torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)
        note_sizes(gone, [(64, 64), (32, 64)])
        del gone
        gc.collect()
        note_sizes(batch, [(64, 64), (64, 32)])
        assert current_mask(torch.zeros(2, 5, 8, 8))[1].sum() == 32
