"""What the tests of the configs share.

Nets of full size run without values, on the meta device: there only shapes
count. Those of the demos, which are the same but narrow, take a real step.
"""

import copy
from functools import lru_cache

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS

import mmea
from mmea.cli.common import load_config, make_parser
from mmea.models import ExternalAttention2d, MultiheadExternalAttention

FILLS = ('normal_', 'trunc_normal_', 'kaiming_normal_', 'kaiming_uniform_')


@lru_cache(None)
def _read(*arguments):
    return load_config(make_parser('', '').parse_args(arguments))


def load(*arguments):
    """The config as ``tools/train.py ARGUMENTS`` trains it."""
    return copy.deepcopy(_read(*arguments))


def leaves(scope):
    """Names of all configs for a package."""
    return [n for n in mmea.list_configs() if _read(n).default_scope == scope]


def with_demo(names):
    return [name for name in names if 'demo_data' in _read(name)]


def cases(names, demos):
    """Parametrize ``args``, those of load(), over configs and demos."""
    found = [(name,) for name in names] + [(name, '--demo') for name in demos]
    return pytest.mark.parametrize('args', found, ids=' '.join)


def length(cfg):
    """Of the training, in epochs or iterations."""
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters


def parts(model, path='model'):
    """Configs of a net, its backbone, necks and heads, by their paths."""
    found = {path: model}
    for key, value in model.items():
        if key.endswith(('backbone', 'neck', 'head')):
            value = value if isinstance(value, list) else [value]
            for i, part in enumerate(filter(None, value)):
                found |= parts(part, f'{path}.{key}.{i}')
    return found


def build_model(cfg):
    if cfg.model.backbone.type == 'mmea.CaaMT2TViT':
        pytest.importorskip('mmpretrain.models')
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def build_on_meta(cfg):
    """The net without values: neither the start nor a run costs much.

    The low-rank form of external attention does not run there: it takes the
    plain one, of the same parameters.
    """
    with pytest.MonkeyPatch.context() as patch:
        for fill in FILLS:
            patch.setattr(torch.nn.init, fill, lambda x, *_, **__: x)
        model = build_model(cfg).to('meta')
    for layer in model.modules():
        if isinstance(
            layer, (ExternalAttention2d, MultiheadExternalAttention)
        ):
            layer.form = 'plain'
    return model


def number_of_parameters(model):
    return sum(p.numel() for p in model.parameters())


def build_optimizer(model, cfg):
    """It holds every parameter, once."""
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = wrapper.optimizer.param_groups
    held = [id(p) for group in groups for p in group['params']]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    return wrapper


def build_schedulers(cfg, optimizer):
    return [
        PARAM_SCHEDULERS.build(
            {
                key: value
                for key, value in scheduler.items()
                if key != 'convert_to_iter_based'  # wants a data loader
            },
            default_args=dict(optimizer=optimizer),
        )
        for scheduler in cfg.param_scheduler
    ]


def tensors(out):
    """All in nested lists, tuples and dicts."""
    if isinstance(out, torch.Tensor):
        return [out]
    out = out.values() if isinstance(out, dict) else out
    return [tensor for part in out for tensor in tensors(part)]


def reach_every_parameter(model, loss):
    """DDP hangs on a parameter without a gradient."""
    loss.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    return trained


def train_a_step(model, cfg, data):
    """The losses, and the names of the parameters that moved."""
    model.train()
    optimizer = build_optimizer(model, cfg)
    batch = model.data_preprocessor(data, training=True)
    losses = model(**batch, mode='loss')
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    trained = reach_every_parameter(model, loss)
    before = {n: p.detach().clone() for n, p in trained.items()}
    optimizer.step()
    moved = {n for n, p in trained.items() if not p.equal(before[n])}
    assert len(moved) > len(trained) / 2
    return losses, moved
