import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from mmea.errors import UserError
from mmea.models import padding_mask as padding
from mmea.models.padding_mask import current_mask
from mmea.registry import MODELS


@pytest.fixture(autouse=True)
def forget():
    yield
    padding._note = None


def detection_batch(sizes):
    from mmdet.structures import DetDataSample

    return dict(
        inputs=[torch.zeros(3, *size, dtype=torch.uint8) for size in sizes],
        data_samples=[
            DetDataSample(metainfo=dict(img_shape=size)) for size in sizes
        ],
    )


def widths(batch, stride=8):
    """Valid columns of each image on a map of this stride."""
    height, width = batch['inputs'].shape[-2:]
    x = torch.zeros(len(batch['inputs']), 1, height // stride, width // stride)
    mask = current_mask(x)
    return None if mask is None else mask.any(1).sum(1).tolist()


class AnyChannels:
    """Tests of both: how images of so many channels are normalised."""

    kind: str

    def normalize(self, channels, **kwargs):
        make = MODELS.build(dict(type=f'mmea.{self.kind}', **kwargs))
        image = torch.arange(channels * 6, dtype=torch.uint8)
        image = image.view(channels, 2, 3)
        return image.double(), make(dict(inputs=[image]))['inputs'][0].double()

    @pytest.mark.parametrize('channels', [1, 2, 4, 13])
    @pytest.mark.parametrize('bgr_to_rgb', [False, True])
    def test_any_number(self, channels, bgr_to_rgb):
        mean = [1.5 * i for i in range(channels)]
        std = [0.5 + i for i in range(channels)]
        image, got = self.normalize(
            channels, mean=mean, std=std, bgr_to_rgb=bgr_to_rgb
        )
        mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))
        torch.testing.assert_close(got, (image - mean) / std)
        image, got = self.normalize(channels, bgr_to_rgb=bgr_to_rgb)
        assert torch.equal(got, image)

    def test_three_are_turned_round(self):
        image, got = self.normalize(
            3, mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=True
        )
        mean = torch.tensor([1, 2, 3]).view(-1, 1, 1)
        assert torch.equal(got, image.flip(0) - mean)

    def test_another_number_than_the_images(self):
        with pytest.raises(UserError, match='images have 4 .* 3 values.*unch'):
            self.normalize(4, mean=[0] * 3, std=[1] * 3)
        with pytest.raises(UserError, match='images have 1 channels.* 4 val'):
            self.normalize(1, mean=[0] * 4, std=[1] * 4)
        with pytest.raises(UserError, match='for each channel, got 4 and 2'):
            self.normalize(4, mean=[0] * 4, std=[1] * 2)


class TestDetDataPreprocessor(AnyChannels):
    kind = 'DetDataPreprocessor'

    @pytest.fixture(autouse=True)
    def need_mmdet(self):
        pytest.importorskip('mmdet.models')

    @pytest.mark.parametrize('training', [False, True])
    def test_notes_sizes(self, training):
        make = MODELS.build(
            dict(type='mmea.DetDataPreprocessor', pad_size_divisor=32)
        )
        batch = make(detection_batch([(64, 40), (50, 90)]), training)
        assert batch['inputs'].shape == (2, 3, 64, 96)
        assert widths(batch) == [5, 12]
        assert batch['data_samples'][0].pad_shape == (64, 64)  # mmdet's own
        # One image alone is padded to the divisor.
        alone = make(detection_batch([(64, 40)]), training)
        assert widths(alone) == [5]
        # The first batch's note is gone.
        assert current_mask(torch.zeros(2, 1, 8, 12)) is None

    def test_switched_off(self):
        make = MODELS.build(
            dict(
                type='mmea.DetDataPreprocessor',
                pad_size_divisor=32,
                padding_mask=False,
            )
        )
        assert widths(make(detection_batch([(64, 40), (50, 90)]))) is None

    def test_batch_augmentations_that_resize(self):
        make = MODELS.build(
            dict(
                type='mmea.DetDataPreprocessor',
                pad_size_divisor=32,
                batch_augments=[
                    dict(
                        type='mmdet.BatchSyncRandomResize',
                        random_size_range=(128, 128),
                        interval=1,
                    )
                ],
            )
        )
        MessageHub.get_current_instance().update_info('iter', 0)
        for _ in range(2):  # the first call draws the size of the second
            data = detection_batch([(64, 32), (64, 64)])
            for sample in data['data_samples']:
                sample.gt_instances = InstanceData(
                    bboxes=torch.zeros(0, 4), labels=torch.zeros(0)
                )
            batch = make(data, training=True)
        assert batch['inputs'].shape[-2:] == (128, 128)
        assert widths(batch) == [8, 16]


class TestSegDataPreProcessor(AnyChannels):
    kind = 'SegDataPreProcessor'

    @pytest.fixture(autouse=True)
    def need_mmseg(self):
        pytest.importorskip('mmseg')

    def batch(self, sizes):
        from mmseg.structures import SegDataSample

        return dict(
            inputs=[
                torch.zeros(3, *size, dtype=torch.uint8) for size in sizes
            ],
            data_samples=[
                SegDataSample(
                    gt_sem_seg=PixelData(
                        data=torch.zeros(1, *size, dtype=torch.long)
                    ),
                    metainfo=dict(img_shape=size),
                )
                for size in sizes
            ],
        )

    def test_notes_sizes(self):
        make = MODELS.build(
            dict(
                type='mmea.SegDataPreProcessor',
                size=(64, 64),
                test_cfg=dict(size_divisor=32),
            )
        )
        batch = make(self.batch([(64, 40), (64, 64)]), training=True)
        assert widths(batch) == [5, 8]
        batch = make(self.batch([(64, 40)]), training=False)
        assert batch['inputs'].shape[-2:] == (64, 64)
        assert widths(batch) == [5]

    def test_switched_off(self):
        make = MODELS.build(
            dict(
                type='mmea.SegDataPreProcessor',
                size=(64, 64),
                padding_mask=False,
            )
        )
        assert widths(make(self.batch([(64, 40)]), training=True)) is None
