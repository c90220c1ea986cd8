import pytest
import torch

from .head_tester import HeadTester

pytest.importorskip('mmseg')


class TestEAHead(HeadTester):
    kwargs = dict(in_channels=6, channels=8, mid_channels=4)
    sizes = [(6, 9, 7)]

    def head(self):
        from mmea.models import EAHead

        return EAHead

    def test_widths(self):
        head = self.head()(2048, num_classes=19)
        assert head.conv_in.conv.weight.shape == (512, 2048, 3, 3)
        assert head.attention.in_channels == 512
        assert head.conv_out.conv.weight.shape == (256, 512, 3, 3)
        assert head.conv_seg.weight.shape == (19, 256, 1, 1)

    def test_order_of_the_parts(self):
        head = self.make(
            attention=dict(zero_init=False), dropout_ratio=0
        ).eval()
        (x,) = self.inputs()
        want = head.conv_seg(head.conv_out(head.attention(head.conv_in(x))))
        torch.testing.assert_close(head([x]), want)
