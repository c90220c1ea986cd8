"""VOLO's published weights: names, and timm's network beside ours."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

pytest.importorskip('mmpretrain.models')

from mmea.convert import convert
from mmea.registry import MODELS
from tests.host_oracle import FOLDER

SIZES = dict(
    num_layers=(2, 1, 2, 1),
    embed_dims=(16, 24),
    num_heads=(2, 3),
    feedforward_channels=(48, 72),
    stem_channels=8,
)


def classifier(arch, classes=5, img_size=64):
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmea.VOLO', arch=arch, img_size=img_size, out_type='raw'
        ),
        head=dict(
            type='mmea.VOLOHead',
            num_classes=classes,
            in_channels=arch['embed_dims'][1],
        ),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg).eval()


def test_output_is_that_of_timm():
    timm = pytest.importorskip('timm.models.volo')
    torch.manual_seed(0)
    theirs = timm.VOLO(
        layers=SIZES['num_layers'],
        img_size=64,
        num_classes=5,
        stem_hidden_dim=8,
        embed_dims=(16, 24, 24, 24),
        num_heads=(2, 3, 3, 3),
        mlp_ratio=3.0,
    ).eval()
    for param in theirs.parameters():
        nn.init.normal_(param, std=0.2)
    model = classifier(SIZES)
    # As of DataParallel, in a checkpoint.
    state = {f'module.{k}': v for k, v in theirs.state_dict().items()}
    model.load_state_dict(convert({'state_dict': state}, 'volo'))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = theirs(x)
        got = model.head(model.extract_feat(x))
        assert (got - want).abs().max() < 1e-5 * want.abs().max()
        _, maps = theirs.forward_intermediates(x, indices=[0, 3], norm=True)
        model.backbone.out_type = 'featmap'
        model.backbone.out_indices = (0, 3)
        for a, b in zip(model.backbone(x), maps, strict=True):
            assert (a - b).abs().max() < 1e-5 * b.abs().max()


def recorded():
    with np.load(FOLDER / 'volo_net_eval.npz') as case:
        return {
            name.removeprefix('param/'): torch.from_numpy(case[name])
            for name in case.files
            if name.startswith('param/')
        }


def test_what_is_not_of_volo_is_refused():
    state = recorded()
    assert len(convert(state, 'volo')) == len(state)
    for name in ('network.5.0.norm1.weight', 'network.1.norm.weight', 'fc.x'):
        with pytest.raises(ValueError, match=f'{name!r} is no name of .volo'):
            convert(state | {name: torch.ones(1)}, 'volo')


def test_converts_by_the_command(tmp_path):
    state = recorded()
    torch.save(state, tmp_path / 'old.pth')
    from mmea.cli.convert import main

    main(['volo', str(tmp_path / 'old.pth'), str(tmp_path / 'new.pth')])
    new = torch.load(tmp_path / 'new.pth')['state_dict']
    want = convert(state, 'volo')
    assert new.keys() == want.keys()
    assert all(torch.equal(new[name], want[name]) for name in new)
    assert 'backbone.stages.0.1.attn.attn_proj.weight' in new
    assert new['backbone.class_blocks.1.attn.key_value.weight'].dim() == 2
