"""What every decode head with attention must do."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from torch import nn


class HeadTester:
    """Subclass it, name it ``Test...``, set ``kwargs`` and ``sizes``."""

    kwargs: dict
    #: (C, H, W) of every input map.
    sizes: list[tuple[int, int, int]]

    def make(self, **more) -> nn.Module:
        torch.manual_seed(0)
        attention = dict(type='mmea.ExternalAttention2d', num_slots=3)
        attention.update(more.pop('attention', {}))
        return self.head()(
            **{
                'attention': attention,
                'num_classes': 5,
                'norm_cfg': dict(type='BN'),
                **self.kwargs,
                **more,
            }
        )

    def inputs(self, batch=2, **kwargs):
        generator = torch.Generator().manual_seed(1)
        return [
            torch.randn(batch, *size, generator=generator).to(**kwargs)
            for size in self.sizes
        ]

    def samples(self, batch=2):
        from mmseg.structures import SegDataSample

        sample = SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, 33, 29)))
        )
        return [sample] * batch

    def test_every_parameter_gets_a_gradient(self):
        head = self.make(attention=dict(zero_init=False))
        loss = head.loss(self.inputs(), self.samples(), {})
        loss['loss_ce'].backward()
        for name, param in head.named_parameters():
            assert param.grad is not None, name
            # A constant on a slot's logits does not pass the softmax.
            if not name.endswith('in_proj.bias'):
                assert param.grad.abs().max() > 0, name

    def test_starts_as_the_head_without_attention(self):
        head = self.make().eval()
        head.init_weights()
        bare = copy.deepcopy(head)
        bare.attention = nn.Identity()
        torch.testing.assert_close(
            head(self.inputs()), bare(self.inputs()), rtol=0, atol=0
        )

    def test_attention_is_used(self):
        head = self.make(attention=dict(zero_init=False)).eval()
        bare = copy.deepcopy(head)
        bare.attention = nn.Identity()
        assert not torch.allclose(head(self.inputs()), bare(self.inputs()))

    def test_batch_of_one_equals_the_batch(self):
        head = self.make(attention=dict(zero_init=False)).eval()
        torch.testing.assert_close(
            head([x[:1] for x in self.inputs()]), head(self.inputs())[:1]
        )

    def test_trains_on_one_image_with_group_norm(self):
        norm = dict(type='GN', num_groups=2)
        head = self.make(norm_cfg=norm, attention=dict(norm_cfg=norm))
        head.loss(self.inputs(1), self.samples(1), {})['loss_ce'].backward()
        assert all(p.grad.isfinite().all() for p in head.parameters())

    def test_state_dict_round_trip(self):
        head = self.make(attention=dict(zero_init=False)).eval()
        other = self.make().eval()
        other.load_state_dict(head.state_dict())
        torch.testing.assert_close(other(self.inputs()), head(self.inputs()))

    def test_bf16_autocast(self):
        head = self.make(attention=dict(zero_init=False)).eval()
        want = copy.deepcopy(head).double()(self.inputs(dtype=torch.float64))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            got = head(self.inputs())
        assert (got - want).abs().max() < 0.05 * want.abs().max()

    def test_unknown_attention(self):
        with pytest.raises(ValueError, match='mmea.Nothing'):
            self.make(attention=dict(type='mmea.Nothing'))
