import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmea.models import ExternalAttention2d
from mmea.models import padding_mask as padding
from mmea.registry import MODELS

pytest.importorskip('mmdet.models')

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=5)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
    padding._notes.clear()


def randomise(model):
    """The attention, and no more: nothing of it is the identity then."""
    for layer in model.modules():
        if isinstance(layer, ExternalAttention2d):
            for param in layer.parameters():
                nn.init.normal_(param, std=0.5)
    return model


class TestEAMaskHead:
    kwargs = dict(
        num_convs=2,
        in_channels=8,
        conv_out_channels=6,
        num_classes=3,
        attention=ATTENTION,
    )

    def make(self, **more):
        torch.manual_seed(0)
        return MODELS.build(
            dict(dict(type='mmea.EAMaskHead', **self.kwargs), **more)
        )

    @pytest.mark.parametrize('num_convs', [0, 2])
    def test_identity_at_the_start(self, num_convs):
        from mmdet.models.roi_heads.mask_heads import FCNMaskHead

        head = self.make(num_convs=num_convs)
        head.init_weights()
        kwargs = dict(self.kwargs, num_convs=num_convs)
        del kwargs['attention']
        plain = FCNMaskHead(**kwargs)
        missing = plain.load_state_dict(head.state_dict(), strict=False)[0]
        assert not missing
        x = torch.randn(4, 8, 14, 14)
        torch.testing.assert_close(head(x), plain(x))
        randomise(head)
        assert not torch.equal(head(x), plain(x))

    def test_regions_have_no_padding(self):
        head = randomise(self.make())
        x = torch.randn(2, 8, 14, 14)
        want = head(x)
        batch = torch.zeros(2, 3, 64, 64)
        padding.note_sizes(batch, [(32, 32), (64, 64)])
        torch.testing.assert_close(head(x), want)
