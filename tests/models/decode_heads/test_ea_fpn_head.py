import pytest
import torch

from .head_tester import HeadTester

pytest.importorskip('mmseg')


class TestEAFPNHead(HeadTester):
    kwargs = dict(
        in_channels=[6, 6, 6],
        in_index=[0, 1, 2],
        feature_strides=[4, 8, 16],
        channels=8,
    )
    sizes = [(6, 16, 12), (6, 8, 6), (6, 4, 3)]

    def head(self):
        from mmea.models import EAFPNHead

        return EAFPNHead

    def test_attends_the_merged_map_at_the_finest_stride(self):
        head = self.make().eval()
        seen = []
        head.attention.register_forward_hook(
            lambda module, args, out: seen.append(args[0])
        )
        logits = head(self.inputs())
        assert seen[0].shape == (2, 8, 16, 12)
        torch.testing.assert_close(logits, head.conv_seg(seen[0]))
