import copy
import pickle

import pytest
import torch
from mmcv.cnn import NonLocal2d
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmengine.registry import MODELS
from torch import nn

from mmea.models import ExternalAttention2d
from mmea.swap import swap_attention

from .harness import ANY, Host, filled, get_config


def test_shared_module():
    block = NonLocal2d(8)
    host = Host(a=block, b=nn.Sequential(block))
    report = swap_attention(host, ANY)
    assert host.a is host.b[0]
    assert isinstance(host.a, ExternalAttention2d)
    assert [s.name for s in report.replaced] == ['a']


def test_frozen():
    host = Host(a=NonLocal2d(8).requires_grad_(False).eval())
    report = swap_attention(host, ANY)
    assert not any(p.requires_grad for p in host.a.parameters())
    assert not host.a.training
    assert 'frozen' in str(report)


def test_dtype():
    host = Host(a=NonLocal2d(8).double())
    swap_attention(host, ANY)
    assert host.a.key_memory.dtype == torch.float64


def test_the_model_itself():
    report = swap_attention(NonLocal2d(8), ANY)
    assert 'the model itself' in str(report)


def test_attention_by_another_name():
    heads = pytest.importorskip('mmseg.models.decode_heads')
    for kind in ('EMAHead', 'PSAHead'):
        head = getattr(heads, kind)
        args = dict(in_channels=4, channels=4, num_classes=2)
        if kind == 'EMAHead':
            args.update(ema_channels=4, num_bases=2, num_stages=1)
        else:
            args.update(mask_size=(3, 3))
        host = Host(head=head(**args))
        report = swap_attention(host, ANY)
        assert 'no known source' in str(report), kind


def test_counting_leaves_the_modes():
    """Of a model in training with a frozen norm."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), Host(a=NonLocal2d(8))
    )
    model[2].forward = lambda x: model[2].a(x)
    model[1].eval()
    before = model[1].running_mean.clone()
    torch.backends.mha.set_fastpath_enabled(True)
    report = swap_attention(model, ANY, input_size=(4, 6))
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(macs > 0 for macs in report.macs)
    assert [module.training for module in model] == [True, False, True]
    assert model.training and model[2].a.training
    assert torch.equal(model[1].running_mean, before)


def test_two_swaps():
    _, cfg = get_config('segformer')
    model = MODELS.build(cfg)
    for where in ('backbone.layers.0.*', 'backbone.layers.1.*'):
        swap_attention(model, [dict(ANY[0], where=where)])
    model.init_weights()
    for i in range(2):
        layer = model.backbone.layers[i][1][0].attn.attention
        assert not layer.out_proj.weight.any()


def test_copies():
    """What an EMA hook, and saving a whole model, need."""
    _, cfg = get_config('vit')
    model = MODELS.build(dict(type='mmea.SwapAttention', model=cfg, rules=ANY))
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ):
        other.init_weights()
        layer = other.backbone.layers[0].attn.attention
        assert not layer.out_proj.weight.any()
        # Its own, not those of the original.
        assert not model.backbone.is_init


def test_second_init_does_nothing():
    """As without the swap: what was trained meanwhile stays."""
    _, cfg = get_config('nlnet')
    model = MODELS.build(dict(type='mmea.SwapAttention', model=cfg, rules=ANY))
    model.init_weights()
    memory = model.decode_head.nl_block.key_memory
    nn.init.constant_(memory, 0.5)
    model.init_weights()
    assert memory.eq(0.5).all()


def test_weights_of_what_was_replaced():
    """They do not fit, so the host's Xavier has the last word but one."""

    class Model(Host):
        def init_weights(self):
            self.load_state_dict(state, strict=False)
            for param in self.parameters():
                nn.init.uniform_(param)

    model = Model(self_attn=MultiheadAttention(8, 2))
    state = model.state_dict()
    swap_attention(model, ANY)
    model.init_weights()
    assert not model.self_attn.attention.out_proj.weight.any()


def test_pretrained_swin(tmp_path):
    """Its own weights load around what was swapped."""
    _, cfg = get_config('mask_rcnn_swin')
    model = filled(MODELS.build(copy.deepcopy(cfg)).backbone)
    path = str(tmp_path / 'swin.pth')
    # The key that the classification package saves a backbone under.
    state = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    cfg.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    swapped = MODELS.build(
        dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
    )
    swapped.init_weights()
    state = swapped.backbone.state_dict()
    assert not any('bias_table' in name for name in state)
    for name, value in model.state_dict().items():
        if '.attn.' not in name:
            torch.testing.assert_close(state[name], value, msg=name)
    attn = swapped.backbone.stages[0].blocks[0].attn
    assert not attn.attention.out_proj.weight.any()


def test_pretrained_weights_stay(tmp_path):
    """init_weights() loads a checkpoint of the swapped model."""
    _, cfg = get_config('nlnet')
    swapped = dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
    model = filled(MODELS.build(swapped))
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    other = MODELS.build(dict(swapped, init_cfg=init_cfg))
    other.init_weights()
    for (name, a), b in zip(
        model.state_dict().items(), other.state_dict().values()
    ):
        torch.testing.assert_close(a, b, msg=name)
