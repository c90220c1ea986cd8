"""Check every layer on a GPU, then time some: python -m benchmarks.gpu_check

Outputs, gradients and running statistics of each layer, in each variant, are
compared with those of the same module in float64 on the CPU; where a layer has
forms, with its plain form there. torch is all it needs. A row is written as
soon as it is there. Without a GPU it runs on the CPU, on smaller maps, and
lists what needs a GPU as not run. Status 1 if a row failed.
"""

import argparse
import copy
import json
import os
import shlex
import signal
import statistics
import sys
import time
import traceback
from collections import Counter
from functools import lru_cache, partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.profiler import ProfilerActivity, profile

from mmea import layers as L
from mmea.layers import external_attention2d
from mmea.ops import find_kernel_obstacle, low_rank_block
from mmea.profiling import peak_memory, time_steps

from . import blocks

DIFFER = 'not bit for bit'
PARTS = ('layers', 'stack', 'compile', 'speed')
C = 64
# Batch, height and width: on a GPU, on a CPU.
SIZES = {
    'odd': ((2, 33, 47), (2, 13, 17)),
    'one': ((1, 32, 32), (1, 8, 8)),
    'large': ((1, 128, 128), (1, 20, 20)),
}
AMP = dict(bfloat16=torch.bfloat16, float16=torch.float16)
# Of outputs and statistics: the largest error over the largest number, a
# residual not counted. Of gradients, in which the roundings of the backward
# pass join: twice that, and the norm of the error over the norm, for where a
# ReLU or a maximum tips over, one number moves by all of its size.
# float32: rounding is 6e-8, adds up over thousands of tokens in another order
# than on the CPU, and a norm may multiply it by ten; TF32 left on by mistake
# is above. bfloat16: the bound of tests/layers/layer_tester.py. float16 and
# the products of TF32 round 8 times finer, but a GPU may also sum in float16.
LIMITS = {
    'float32': (1e-4, 2e-4),
    'tf32': (0.02, 0.04),
    'float16': (0.02, 0.04),
    'bfloat16': (0.05, 0.1),
    # Of some 100 000 ReLUs a few tip over.
    'network': (1e-4, 0.02),
}


class Autograd(L.ExternalAttention2d):
    """The low-rank form with the backward pass of autograd."""

    def forward(self, x, mask=None):
        with mock.patch.object(
            external_attention2d, 'low_memory_block', low_rank_block
        ):
            return super().forward(x, mask)


class Multihead(L.MultiheadExternalAttention):
    residual = True

    def forward(self, x, mask=None):
        padding = None if mask is None else ~mask
        return super().forward(x, key_padding_mask=padding)


class Dictionary(L.CATTLayer):
    """The layer with a dictionary of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.words = nn.Parameter(torch.empty(1, 50, self.embed_dims))

    def forward(self, x, mask=None):
        return super().forward(x, self.words, mask)


class Points(L.OffsetAttention1d):
    """The layer on a map, whose pixels are its points."""

    residual = True

    def forward(self, x, mask=None):
        valid = None if mask is None else mask.flatten(1)
        return super().forward(x.flatten(2), valid).unflatten(2, x.shape[2:])


ON_TOKENS = (L.MultiheadExternalAttention, L.CATTLayer, L.CaaMAttention)
NORM = dict(norm_layer=nn.BatchNorm2d)
GROUP = dict(norm_layer=partial(nn.GroupNorm, 8))
STRIDE = dict(NORM, stride=2, residual=False)
PLAIN, LOW_RANK = dict(form='plain'), dict(form='low_rank')
KERNEL = dict(form='kernel')
EANET = dict(NORM, act_layer=nn.ReLU)
HEADS = dict(num_heads=4, batch_first=True)
WORDS = dict(dictionary_size=50)
TIMM = dict(masked=False, project=False, scale_position=False)
# In training, low-rank external attention has its backward pass by hand.
KINDS = {
    L.ExternalAttention2d: {
        'plain': PLAIN,
        'low-rank': LOW_RANK,
        'plain, published': PLAIN | EANET,
        'low-rank, published': LOW_RANK | EANET,
        'low-rank, group norm': LOW_RANK | GROUP,
        'low-rank, slots alone': LOW_RANK | EANET | dict(over_tokens=False),
        'kernels': KERNEL,
        'kernels, published': KERNEL | EANET,
        'kernels, group norm': KERNEL | GROUP,
        'kernels, 100 slots': KERNEL | EANET | dict(num_slots=100),
    },
    Autograd: {'low-rank, published, autograd': LOW_RANK | EANET},
    Multihead: {'plain': PLAIN | HEADS, 'low-rank': LOW_RANK | HEADS},
    L.SAGANAttention2d: {'published': {}},
    L.SAGANExternalAttention2d: {'two projections': {}},
    L.SelfAttention2d: {'1 head': {}, '8 heads': dict(NORM, num_heads=8)},
    L.NonLocal2d: {
        'embedded_gaussian': NORM,
        'gaussian': dict(mode='gaussian'),
        'dot_product': dict(mode='dot_product'),
        'concatenation': dict(mode='concatenation'),
        'sub_sample': dict(sub_sample=True),
    },
    L.EfficientAttention2d: {
        '1 head': NORM,
        '4 heads': dict(GROUP, num_heads=4),
    },
    # A norm behind a single gamma would leave it a gradient of rounding.
    L.LinearAttention2d: {
        'position': {},
        'channel': dict(mode='channel'),
        'dual': dict(NORM, mode='dual'),
        'dual, compat': dict(mode='dual', compat=True),
    },
    L.StandAloneAttention2d: {
        'relative': NORM,
        'absolute, stride': dict(STRIDE, position='absolute'),
        'channelwise': dict(kernel_size=3, channelwise=True),
    },
    L.HaloAttention2d: {'masked': NORM, 'not masked': TIMM, 'stride': STRIDE},
    L.ELSA2d: {'addend': NORM, 'factor': dict(lam=1)},
    L.OutlookAttention2d: {'3 x 3': NORM, '5 x 5': dict(kernel_size=5)},
    L.CATT2d: {
        'two paths': WORDS,
        'shared': dict(WORDS, shared=True),
        'in_sample': dict(WORDS, in_sample=L.EfficientAttention2d),
    },
    Dictionary: {
        'two paths': dict(num_heads=4),
        'shared': dict(num_heads=4, shared=True),
    },
    L.CaaMAttention: {'4 heads': dict(num_heads=4, qkv_bias=True)},
    L.CaaMPair2d: {'CBAM': {}},
    L.CBAMGate2d: {
        'bare': {},
        'residual': dict(residual=True, zero_init=False),
    },
    L.StandAloneStem2d: {'4 x 4': NORM},
    # Biases in front of a batch norm have a gradient of rounding.
    Points: {
        'self': dict(norm_layer=None),
        'external': dict(GROUP, external=True),
    },
}


def name_of(layer: type) -> str:
    """Return the layer's name in mmea.layers."""
    return next(c.__name__ for c in layer.mro() if c.__name__ in L.__all__)


CASES = {
    f'{name_of(layer)}: {kind}': (layer, kwargs)
    for layer, kinds in KINDS.items()
    for kind, kwargs in kinds.items()
}


class Variant(NamedTuple):
    precision: str = 'float32'
    size: str = 'odd'
    mask: str = ''
    how: str = ''
    train: bool = True


infer = partial(Variant, train=False)
VARIANTS = {
    'float32': Variant(),
    'bfloat16': Variant('bfloat16'),
    'float16': Variant('float16'),
    'tf32': Variant('tf32'),
    'inference': infer(),
    'inference, bfloat16': infer('bfloat16'),
    'inference, float16': infer('float16'),
    'mask': Variant(mask='ragged'),
    'mask, bfloat16': Variant('bfloat16', mask='ragged'),
    'mask, float16': Variant('float16', mask='ragged'),
    'mask, inference, bfloat16': infer('bfloat16', mask='ragged'),
    'empty image': Variant(mask='empty'),
    'empty image, bfloat16': Variant('bfloat16', mask='empty'),
    'channels last': Variant(how='channels last'),
    'channels last, bfloat16': Variant('bfloat16', how='channels last'),
    'strided input': Variant(how='strided'),
    'batch of one': Variant(size='one'),
    'batch of one, bfloat16': Variant('bfloat16', 'one'),
    'checkpointing': Variant(how='checkpointing'),
    'checkpointing, bfloat16': Variant('bfloat16', how='checkpointing'),
    'deployed': infer(how='deploy'),
    'deployed, bfloat16': infer('bfloat16', how='deploy'),
    'deployed, mask': infer(how='deploy', mask='ragged'),
    'synchronised norm': Variant(how='sync'),
    'synchronised norm, mask': Variant(how='sync', mask='ragged'),
    'two runs': Variant(how='twice'),
    'CUDA graph': infer(how='graph'),
    'CUDA graph, bfloat16': infer('bfloat16', how='graph'),
    'CUDA graph, deployed': infer(how='deploy, graph'),
    'large map': Variant(size='large', how='memory'),
    'large map, bfloat16': Variant('bfloat16', 'large', how='memory'),
    'compiled': Variant(how='compile'),
    'compiled, bfloat16': Variant('bfloat16', how='compile'),
}


class NotRun(Exception):
    """A check that cannot run here; the message says why."""


class TimeUp(BaseException):
    """Raised by a signal: no time is left."""


def suits(module: nn.Module, variant: Variant) -> bool:
    """Tell whether there is such a variant of the layer."""
    if variant.how == 'compile':
        # A patch is no graph; and in bfloat16 all layers would take minutes.
        return not isinstance(module, Autograd) and (
            variant.precision == 'float32'
            or isinstance(module, L.ExternalAttention2d)
        )
    if 'deploy' in variant.how:
        folds = hasattr(module, 'switch_to_deploy')
        return folds and not isinstance(module, L.SAGANExternalAttention2d)
    return {
        'channels last': not isinstance(module, ON_TOKENS),
        'checkpointing': hasattr(module, 'with_cp'),
        'sync': any(isinstance(m, nn.BatchNorm2d) for m in module.modules()),
    }.get(variant.how, True)


def make(case: str, train: bool = True) -> nn.Module:
    """Fill a layer whose zeros at the start would hide errors."""
    torch.manual_seed(0)
    layer, kwargs = CASES[case]
    module = layer(C, **kwargs)
    for param in module.parameters():
        nn.init.normal_(param, std=C**-0.5 if param.dim() > 1 else 0.3)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # In training from 0, so that they are the batch's and no others.
            nn.init.normal_(norm.running_mean, std=0 if train else 0.3)
            nn.init.uniform_(norm.running_var, *((0, 0) if train else (1, 2)))
    return module.train(train)


def make_batch(module, size, mask, device) -> tuple[Tensor, Tensor | None]:
    """Input, zero in the padding, and mask, True = valid, on the CPU."""
    batch, height, width = SIZES[size][device == 'cpu']
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, C, height, width, generator=generator)
    valid = None
    if mask:
        valid = torch.zeros(batch, height, width, dtype=torch.bool)
        valid[0, : height * 2 // 3, : width - 2] = True
        # The other image has a strip, or nothing.
        valid[1:, :, : width // 2] = mask == 'ragged'
        x = x * valid.unsqueeze(1)
    if isinstance(module, ON_TOKENS):
        x = x.flatten(2).mT.contiguous()
        valid = None if valid is None else valid.flatten(1)
    return x, valid


def forward(call, x, valid, precision, train) -> list[Tensor]:
    amp = AMP.get(precision)
    with (
        torch.set_grad_enabled(train),
        torch.autocast(x.device.type, amp, enabled=amp is not None),
    ):
        outs = call(x) if valid is None else call(x, valid)
    return [outs] if isinstance(outs, Tensor) else list(outs)


def step(module, call, x, valid, precision) -> dict[str, Tensor]:
    """All that there is to compare, by name; the loss is a mean."""
    x = x.detach().requires_grad_(module.training)
    outs = forward(call, x, valid, precision, module.training)
    found, loss = {}, 0
    for i, out in enumerate(outs):
        out = out.to(x.dtype)
        bare = out.detach()
        if getattr(module, 'residual', False):
            bare = bare - x.detach()
        if valid is not None:
            keep = valid.unsqueeze(2)
            if not isinstance(module, ON_TOKENS):
                keep = getattr(module, 'output_mask', lambda m: m)(valid)
                keep = keep.unsqueeze(1)
            out, bare = (y.masked_fill(~keep, 0) for y in (out, bare))
        found[f'output {i}'] = bare
        generator = torch.Generator().manual_seed(2 + i)
        weight = torch.randn(out.shape, generator=generator)
        loss = loss + (out * weight.to(out)).mean()
    if module.training:
        # GradScaler's first factor.
        scale = 2.0**16 if precision == 'float16' else 1
        (loss * scale).backward()
        for name, leaf in (('input', x), *module.named_parameters()):
            if leaf.grad is None:
                raise AssertionError(f'no gradient of {name}')
            found[f'gradient of {name}'] = leaf.grad / scale
        found.update(module.named_buffers())
    return found


@lru_cache(None)
def reference(case, size, mask, train, device, on) -> dict[str, Tensor]:
    """In float64, on the device named by ``on``."""
    module = make(case, train).double().to(on)
    if hasattr(module, 'form'):
        module.form = 'plain'
    x, valid = make_batch(module, size, mask, device)
    valid = None if valid is None else valid.to(on)
    found = step(module, module, x.double().to(on), valid, 'float64')
    return {name: value.cpu() for name, value in found.items()}


def compare(got: dict, want: dict, precision: str) -> dict:
    """Find the worst error, by its share of the limit."""
    if got.keys() != want.keys():
        raise AssertionError(f'{got.keys()} are not {want.keys()}')
    got, want = (
        {name: value.cpu().double() for name, value in found.items()}
        for found in (got, want)
    )
    gradients = [name for name in want if name.startswith('gradient of ')]
    largest = max(
        (want[n].norm() for n in gradients if n != 'gradient of input'),
        default=0,
    )
    shares = []
    for name, exact in want.items():
        if got[name].shape != exact.shape:
            raise AssertionError(f'{name} is {tuple(got[name].shape)}')
        error = got[name] - exact
        if not error.isfinite().all():
            raise AssertionError(f'{name} is not finite')
        limit = LIMITS[precision][name in gradients]
        if name in gradients:
            error, scale = error.norm(), exact.norm()
            # A bias before a softmax or a norm has a gradient of zero, and
            # what is small is a sum that cancels: what is left is rounding
            # of larger numbers.
            if scale < 1e-6 * largest:
                scale = largest
            scale = max(scale, 0.01 * largest)
        else:
            error, scale = error.abs().max(), exact.abs().max()
        share = float(error / scale) / limit if error else 0.0
        shares.append((share, limit, name))
    share, limit, name = max(shares)
    return dict(
        status='passed' if share <= 1 else 'failed',
        precision=precision,
        error=share * limit,
        limit=limit,
        where=name,
    )


def check(case: str, variant: Variant, device: str) -> dict:
    """One row: a layer in a variant."""
    precision, size, mask, how, train = variant
    if device == 'cpu' and (precision == 'tf32' or 'graph' in how):
        raise NotRun('needs a GPU')
    if CASES[case][1].get('form') == 'kernel':
        need_kernels(device)
    # On the CPU a map of all pairs of 128 x 128 would take too long.
    on = device if size == 'large' else 'cpu'
    want = reference(case, size, mask, train, device, on)
    use_tf32(precision == 'tf32')
    module = call = make(case, train).to(device)
    x, valid = make_batch(module, size, mask, device)
    x = x.to(device)
    if mask:
        valid = valid.to(device)
        hidden = ~valid.unsqueeze(2 if isinstance(module, ON_TOKENS) else 1)
        x = x.masked_fill(hidden, torch.nan)
    row = dict(reference=f'float64, {on}')
    if how == 'channels last':
        x = x.to(memory_format=torch.channels_last)
    elif how == 'strided':
        x = torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]
    elif how == 'checkpointing':
        module.with_cp = True
    elif how == 'sync':
        module = call = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        if device == 'cuda' and not dist.is_initialized():
            store = dist.HashStore()
            dist.init_process_group('gloo', store=store, rank=0, world_size=1)
    elif how == 'compile':
        torch._dynamo.reset()
        call = torch.compile(module, fullgraph=True, dynamic=False)
    elif how == 'memory':
        twin = copy.deepcopy(module)
        row['memory'] = peak_memory(partial(bare, twin, x, precision), device)
        del twin
    elif how == 'twice':
        twin = copy.deepcopy(module)
        want = step(twin, twin, x, valid, precision)
        row['reference'] = 'the first run'
    if 'deploy' in how:
        module.switch_to_deploy()
    if 'graph' in how:
        call = partial(through_graph, module)
    got = step(module, call, x, valid, precision)
    if how == 'twice':
        equal = all(torch.equal(got[name], want[name]) for name in want)
        row['note'] = 'equal' if equal else DIFFER
    return {**row, **compare(got, want, precision)}


def use_tf32(on: bool):
    torch.set_float32_matmul_precision('high' if on else 'highest')
    torch.backends.cudnn.allow_tf32 = on


def bare(module, x, precision):
    """Run a step and nothing else, for its memory."""
    x = x.detach().requires_grad_()
    outs = forward(module, x, None, precision, True)
    torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])


def through_graph(module, x) -> list[Tensor]:
    """Capture on zeros, replay on x."""
    static = torch.zeros_like(x)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = module(static)
    static.copy_(x)
    graph.replay()
    outs = [outs] if isinstance(outs, Tensor) else outs
    return [out.clone() for out in outs]


def need(*names: str):
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # mmseg asserts the version of mmcv
            raise NotRun(f'{name}: {error}') from error


def need_kernels(device: str):
    obstacle = find_kernel_obstacle(torch.ones(1, 1, 1, device=device), 1)
    if obstacle is not None:
        raise NotRun(obstacle)


def check_config(device: str) -> dict:
    """One training step of the demo model of ea_fpn_ade20k.py."""
    need('mmengine', 'mmseg.models')
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from mmea.engine.config import load_config

    cfg = load_config('ea_fpn_ade20k', demo=True)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    labels = torch.randint(model.num_classes, (2, 1, 64, 96))

    def run(device, dtype):
        twin = copy.deepcopy(model).to(device, dtype)
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels
        ]
        data = dict(inputs=list(images), data_samples=samples)
        data = twin.data_preprocessor(data, True)
        losses = twin.loss(data['inputs'].to(dtype), data['data_samples'])
        loss, _ = twin.parse_losses(losses)
        loss.backward()
        found = {'output': loss.detach()}
        for name, param in twin.named_parameters():
            found[f'gradient of {name}'] = param.grad
        return found

    use_tf32(False)
    got, want = run(device, torch.float32), run('cpu', torch.float64)
    return dict(reference='float64, cpu', **compare(got, want, 'network'))


def check_mmcv_op(name: str, device: str) -> dict:
    """Compare an op that mmdet asks for."""
    need('mmcv.ops')
    from mmcv import ops

    if device == 'cpu':
        raise NotRun('needs a GPU')
    torch.manual_seed(0)
    corners, sides = torch.rand(100, 2) * 10, 1 + torch.rand(100, 2) * 20
    boxes = torch.cat([corners, corners + sides], 1)
    rois = torch.cat([torch.randint(2, (100, 1)), boxes], 1)
    labels = torch.randint(8, (100,))
    first, second, *options = {
        'nms': (boxes, torch.rand(100), 0.5),
        'roi_align': (torch.randn(2, 8, 32, 40), rois, 7, 0.5, 2),
        'sigmoid_focal_loss': (torch.randn(100, 7), labels, 2.0, 0.25),
    }[name]

    def run(op, device):
        x = first.detach().to(device).requires_grad_(name != 'nms')
        outs = op(x, second.to(device), *options)
        if name == 'nms':
            return dict(zip(('boxes', 'index'), outs))
        outs.square().sum().backward()
        return {'output': outs.detach(), 'gradient of input': x.grad}

    op = getattr(ops, name)
    try:
        got = run(op, device)
    except NotImplementedError as error:  # a stand-in without this op
        raise NotRun(str(error)) from error
    # mmcv has no focal loss on CPUs.
    want = run(plain_focal_loss if 'focal' in name else op, 'cpu')
    return dict(reference='float32, cpu', **compare(got, want, 'float32'))


def plain_focal_loss(logits, target, gamma, alpha):
    """Average; the class after the last is the background."""
    hot = target[:, None] == torch.arange(logits.shape[1])
    share = torch.where(hot, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(hot, alpha, 1 - alpha)
    return (-weight * (1 - share) ** gamma * share.log()).sum() / len(logits)


def measure(name, size, dtype, mode, batch, device) -> dict:
    """Median, and spread, of five medians of seven steps.

    Each begins on a GPU without work, so that it tells what the host takes
    where that is longer; ``device_ms`` is what the GPU takes.
    """
    if device == 'cpu':
        raise NotRun('needs a GPU')
    if name in blocks.KERNELS:
        need_kernels(device)
    use_tf32(False)
    torch._dynamo.reset()  # or after eight it would compile no more
    step = blocks.make_step(name, size, mode, device, dtype, batch)
    times = [time_steps({0: step}, device, rounds=7)[0] for _ in range(5)]
    return dict(
        status='measured',
        ms=1000 * statistics.median(times),
        fastest=1000 * min(times),
        slowest=1000 * max(times),
        device_ms=1000 * time_of_kernels(step),
        memory=peak_memory(step, device),
    )


def time_of_kernels(step, rounds=5) -> float:
    """Seconds of a step in which the GPU works, without the gaps."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(rounds):
            step()
        torch.cuda.synchronize()
    events = profiler.key_averages()
    return sum(e.self_device_time_total for e in events) / rounds / 1e6


def layer_of(case: str) -> str:
    return case.split(':')[0]


LAYERS = tuple(dict.fromkeys(map(layer_of, CASES)))


def plan(args):
    """Yield part, case, variant and the function that makes the row.

    All layers in one variant before the next, so that a short run sees all;
    the parts in any order.
    """
    cases = {case: make(case) for case in CASES if layer_of(case) in args.only}
    for name, variant in VARIANTS.items():
        part = 'compile' if variant.how == 'compile' else 'layers'
        for case, module in cases.items():
            if suits(module, variant):
                yield part, case, name, partial(check, case, variant)
    yield 'stack', 'mmseg: ea_fpn_ade20k.py --demo', 'float32', check_config
    for op in ('nms', 'roi_align', 'sigmoid_focal_loss'):
        yield 'stack', f'mmcv.ops: {op}', 'float32', partial(check_mmcv_op, op)
    for batch, size, dtype, mode, (name, new) in product(
        args.batches,
        (64, 128),
        (torch.float32, torch.bfloat16),
        ('inference', 'training'),
        blocks.BLOCKS.items(),
    ):
        layer = name_of(type(new(8)))
        if layer in args.only and blocks.ONLY.get(name, mode) == mode:
            work = partial(measure, name, size, dtype, mode, batch)
            what = f'{batch} x {size} x {size}, {str(dtype)[6:]}, {mode}'
            yield 'speed', f'{layer}: {name}', what, work


class Record:
    """The rows: each to a file and the screen as soon as it is there."""

    def __init__(self, path: Path, run: float):
        lines = path.read_text('utf-8').splitlines() if path.exists() else []
        self.rows = [r for r in map(json.loads, lines) if r['run'] == run]
        self.done = {(row['case'], row['variant']) for row in self.rows}
        self.file, self.run = path.open('a', encoding='utf-8'), run

    def write(self, row: dict):
        self.rows.append(dict(row, run=self.run))
        print(json.dumps(self.rows[-1]), file=self.file, flush=True)
        print(describe(row), flush=True)


def work_off(args, record: Record):
    """Make the rows there is time for; one that fails stops no other."""
    deadline, took = args.run + args.seconds, {}
    rows = sorted(plan(args), key=lambda row: PARTS.index(row[0]))
    for part, case, variant, work in rows:
        if part not in args.parts or (case, variant) in record.done:
            continue
        row = dict(part=part, case=case, variant=variant)
        start = time.time()
        try:
            if deadline - start <= statistics.fmean(took.get(variant, [0])):
                raise NotRun('no time left')
            row.update(work(args.device))
        except NotRun as reason:
            row.update(status='not run', note=str(reason))
        except TimeUp:
            row.update(status='not run', note='cut off, no time left')
            deadline = 0
        except Exception as error:
            note = f'{type(error).__name__}: {" ".join(str(error).split())}'
            # Some torch has no float16 on CPUs for all that there is.
            missing = args.device == 'cpu' and "for 'Half'" in note
            row.update(status='not run' if missing else 'failed')
            row.update(note=note[:300], traceback=traceback.format_exc())
        row['seconds'] = round(time.time() - start, 3)
        took.setdefault(variant, []).append(row['seconds'])
        record.write(row)
        if row['status'] == 'failed' and args.device == 'cuda':
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                # No kernel runs in this process any more: go on in another.
                command = [sys.executable, '-m', 'benchmarks.gpu_check']
                command += [*args.argv, '--run', str(args.run)]
                os.execv(sys.executable, command)


def describe(row: dict) -> str:
    text = f'{row["status"]:8} {row["case"]} | {row["variant"]}'
    if 'error' in row:
        text += f' | {row["error"]:.1e} of {row["limit"]:g}, {row["where"]}'
    if 'ms' in row:
        text += ' | {ms:.3f} ms ({fastest:.3f} to {slowest:.3f})'.format(**row)
    if 'device_ms' in row:
        text += f', on the GPU {row["device_ms"]:.3f}'
    if 'memory' in row:
        text += f' | {row["memory"] / 2**20:.1f} MiB'
    return text + (f' | {row["note"]}' if 'note' in row else '')


def summarise(rows: list[dict], head: dict) -> str:
    """Write what README.md says of a run."""
    states = ('passed', 'failed', 'measured', 'not run')
    by = {s: [row for row in rows if row['status'] == s] for s in states}
    lines = ['# What benchmarks.gpu_check found', '']
    lines += [', '.join(f'{len(by[s])} {s}' for s in states) + '.', '']
    lines += [f'* {name}: {value}' for name, value in head.items()]
    lines += ['', 'Worst error, and its share of the limit:', '']
    lines += ['| layer | ' + ' | '.join(LIMITS) + ' |', '|---' * 6 + '|']
    worst = {}
    for row in rows:
        if 'error' in row:
            key = layer_of(row['case']), row['precision']
            share = row['error'] / row['limit']
            worst.setdefault(key, []).append((share, row['error']))
    for layer in dict.fromkeys(layer for layer, _ in worst):
        found = [worst.get((layer, name)) for name in LIMITS]
        cells = [f and '{1:.1e} ({0:.0%})'.format(*max(f)) for f in found]
        lines.append(f'| {layer} | {" | ".join(c or "-" for c in cells)} |')
    memory = [row for row in by['passed'] if 'memory' in row]
    differ = [row for row in by['passed'] if row.get('note') == DIFFER]
    for title, some in (
        ('Failed', by['failed']),
        ('Speed', by['measured']),
        ('Peak memory of a training step', memory),
        ('Two runs differ', differ),
    ):
        if some:
            lines += ['', f'{title}:', '', *(f'* {describe(r)}' for r in some)]
    lines += ['', 'Not run:', '']
    for (variant, note), number in Counter(
        (row['variant'], row['note']) for row in by['not run']
    ).items():
        lines.append(f'* {variant}, {number} rows: {note}')
    return '\n'.join(lines) + '\n'


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.gpu_check',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = partial(parser.add_argument, nargs='+', help='default: all')
    add('--only', choices=LAYERS, default=LAYERS, metavar='LAYER')
    add('--parts', choices=PARTS, default=PARTS)
    add('--batches', type=int, default=(1, 8), metavar='B')
    parser.add_argument(
        '--seconds',
        type=float,
        default=500,
        help='what does not fit is listed as not run (default: 500)',
    )
    parser.add_argument(
        '--device',
        choices=['cuda', 'cpu'],
        default='cuda' if torch.cuda.is_available() else 'cpu',
    )
    folder = Path(__file__).parent / 'results' / 'gpu-check'
    parser.add_argument('--out', type=Path, default=folder)
    # When the run began, for a process that goes on with it.
    parser.add_argument(
        '--run', type=float, default=time.time(), help=argparse.SUPPRESS
    )
    return parser.parse_args(argv, argparse.Namespace(argv=argv))


def conditions(args) -> dict[str, object]:
    """Write the head of the summary."""
    try:
        triton = import_module('triton').__version__
    except ImportError:
        triton = 'none'
    gpu = args.device == 'cuda'
    return {
        'command': shlex.join(
            ['python', '-m', 'benchmarks.gpu_check'] + args.argv
        ),
        'device': torch.cuda.get_device_name() if gpu else 'cpu, small maps',
        'torch': torch.__version__,
        'triton': triton,
        'CUDA': torch.version.cuda if gpu else 'not used',
        'cuDNN': torch.backends.cudnn.version() if gpu else 'not used',
    }


def main(argv: list[str]) -> int:
    args = parse_args(argv)
    head = conditions(args)
    print(*(f'{name}: {value}' for name, value in head.items()), sep='\n')
    args.out.mkdir(parents=True, exist_ok=True)
    record = Record(args.out / 'rows.jsonl', args.run)

    def stop(*_):
        raise TimeUp

    # A row that hangs has 20 seconds more than there are.
    left = args.run + args.seconds + 20 - time.time()
    numbers = signal.SIGALRM, signal.SIGTERM
    before = [signal.signal(number, stop) for number in numbers]
    signal.alarm(max(1, int(left)))
    try:
        work_off(args, record)
    finally:
        signal.alarm(0)
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
        text = summarise(record.rows, head)
        (args.out / 'README.md').write_text(text, encoding='utf-8')
    print(f'\n{text}\nRows and summary: {args.out}')
    failed = [row for row in record.rows if row['status'] == 'failed']
    for row in failed:
        print(describe(row))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
