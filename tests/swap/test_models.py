"""The swap on models of mmseg and mmdet."""

import copy

import pytest
import torch
from mmcv.cnn import ContextBlock, NonLocal2d
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch import nn

from mmea.models import ExternalAttention2d
from mmea.swap import swap_attention
from mmea.swap.adapters import TokenAttention

from .harness import ANY, MODELS_TO_SWAP, get_config


def get_batch(scope: str) -> dict:
    """Two images, for mmdet of different sizes, so that one is padded."""
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        batch = demo_mm_inputs(
            2, [[3, 64, 64], [3, 50, 64]], num_classes=3, with_mask=True
        )
    else:
        from mmseg.structures import SegDataSample

        labels = torch.zeros(1, 64, 64, dtype=torch.long)
        labels[:, 32:] = 1
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
        batch = dict(inputs=list(images), data_samples=[sample] * 2)
    return batch


def losses(model, batch) -> torch.Tensor:
    batch = model.data_preprocessor(copy.deepcopy(batch), True)
    parsed = model.parse_losses(model(**batch, mode='loss'))
    return parsed[0]


def outputs(model, batch) -> list[torch.Tensor]:
    """Of the parts in which the attention is."""
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    with torch.no_grad():
        if hasattr(model, 'forward_transformer'):
            features = model.extract_feat(data['inputs'])
            return list(
                model.forward_transformer(features, data['data_samples'])[
                    'hidden_states'
                ]
            )
        if hasattr(model, 'encode_decode'):
            return [model(data['inputs'], mode='tensor')]
        return list(model.extract_feat(data['inputs']))


@pytest.mark.parametrize('name', MODELS_TO_SWAP)
def test_models(name):
    """What is replaced; a training step; state_dict; from a config."""
    torch.manual_seed(0)
    scope, cfg = get_config(name)
    model = MODELS.build(copy.deepcopy(cfg))
    want, left = MODELS_TO_SWAP[name][2:]
    old = {path: model.get_submodule(path) for path in want}
    before = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report = swap_attention(model, ANY, input_size=(64, 64))
    assert [site.name for site in report.replaced] == want
    assert [site.name for site in report.left] == left
    assert all(site.reason for site in report.left)
    assert report.unused == ([] if want else ['any'])
    after = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.params == (before, after)
    assert min(report.macs) > 0
    assert (report.macs[0] != report.macs[1]) == bool(want)
    for line in (*want, *left, f'{before:,} -> {after:,}'):
        assert line in str(report)
    if not want:
        return

    new = {path: model.get_submodule(path) for path in want}
    for path, module in new.items():
        assert module is not old[path]
        assert isinstance(module, (ExternalAttention2d, TokenAttention))
    model.init_weights()
    # The host's own initialisation has not had the last word.
    for module in new.values():
        layer = getattr(module, 'attention', module)
        assert not layer.out_proj.weight.any()
        nn.init.normal_(layer.out_proj.weight)  # zeros would hide gradients
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # ResNet ends its blocks by zeros
    model.train()
    batch = get_batch(scope)
    losses(model, batch).backward()
    for path, module in new.items():
        for key, param in module.named_parameters():
            assert param.grad is not None, (path, key)
            # The softmax over tokens ignores this one.
            if not key.endswith('in_proj.bias') and param.requires_grad:
                assert param.grad.abs().sum() > 0, (path, key)

    # The same from a config, as the Runner would build it, and the weights.
    wrapped = MODELS.build(
        dict(type='mmea.SwapAttention', model=cfg, rules=ANY)
    )
    assert type(wrapped) is type(model)
    wrapped.load_state_dict(model.state_dict())
    pairs = zip(outputs(model, batch), outputs(wrapped, batch))
    for a, b in pairs:
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', [n for n in MODELS_TO_SWAP if n != 'danet'])
def test_starts_with_no_attention(name):
    """As the host when its attention returns nothing but its residual."""
    scope, cfg = get_config(name)
    model = MODELS.build(cfg)
    batch = get_batch(scope)
    swapped = copy.deepcopy(model)
    swap_attention(swapped, ANY)
    for path in MODELS_TO_SWAP[name][2]:
        module = model.get_submodule(path)
        if isinstance(module, (NonLocal2d, ContextBlock)):
            module.forward = lambda x: x
        elif hasattr(module, 'w_msa'):
            nn.init.zeros_(module.w_msa.proj.weight)
            nn.init.zeros_(module.w_msa.proj.bias)
        else:
            nn.init.zeros_(module.attn.out_proj.weight)
            nn.init.zeros_(module.attn.out_proj.bias)
    for a, b in zip(outputs(model, batch), outputs(swapped, batch)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    'name', ['segformer', 'swin_upernet', 'vit', 'mask_rcnn_swin', 'detr']
)
def test_token_member(name):
    """MultiheadExternalAttention, with the heads of what it replaces."""
    scope, cfg = get_config(name)
    model = MODELS.build(cfg)
    old = model.get_submodule(MODELS_TO_SWAP[name][2][-1])
    heads = getattr(old, 'w_msa', old).num_heads
    target = dict(type='mmea.MultiheadExternalAttention', num_slots=4)
    report = swap_attention(model, [dict(source='any', target=target)])
    assert [s.name for s in report.replaced] == MODELS_TO_SWAP[name][2]
    assert report.replaced[0].target == 'MultiheadExternalAttention'
    model.init_weights()
    model.train()
    losses(model, get_batch(scope)).backward()
    for path in MODELS_TO_SWAP[name][2]:
        layer = model.get_submodule(path).attention
        for key, param in layer.named_parameters():
            assert param.grad is not None, (path, key)
        assert layer.out_proj.weight.grad.abs().sum() > 0
    assert layer.num_heads == heads > 1
