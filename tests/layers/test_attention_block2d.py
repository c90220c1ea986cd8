import torch
from torch import nn

from mmea.layers import AttentionBlock2d

from .layer_tester import LayerTester


class Mean(AttentionBlock2d):
    """The smallest system: every token reads the mean of all."""

    def __init__(self, in_channels, **kwargs):
        super().__init__(in_channels, **kwargs)
        self.out_proj = nn.Conv2d(in_channels, in_channels, 1)
        self.reset_parameters()

    def reset_parameters(self):
        self.out_proj.reset_parameters()
        super().reset_parameters()

    def attend(self, x, mask=None):
        valid = torch.ones_like(x[:, 0]) if mask is None else mask.to(x.dtype)
        # x is zero in the padding.
        mean = x.sum((2, 3)) / valid.sum((1, 2))[:, None].clamp(min=1)
        return self.out_proj(mean[:, :, None, None].expand_as(x))


class TestAttentionBlock2d(LayerTester):
    layer, kwargs = Mean, dict(in_channels=6)

    def test_order_of_the_parts(self):
        block = self.make_random(
            norm_layer=nn.BatchNorm2d, act_layer=nn.Tanh
        ).eval()
        x = self.input()
        want = torch.tanh(x + block.norm(block.attend(x)))
        torch.testing.assert_close(block(x), want)

    def test_abbr_is_what_mmcv_names_a_plugin_by(self):
        assert AttentionBlock2d._abbr_ == 'attention_block2d'
