"""How far a pixel reaches in a segmentor, and what forbids tiles."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from math import lcm
from typing import Any

import torch
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mmea.errors import UserError
from mmea.layers import AttentionBlock2d, ExternalAttention2d
from mmea.models.padding_mask import note_sizes
from mmea.ops import TokenStats
from mmea.scale.exchange import answering

__all__ = [
    'check_local',
    'classify',
    'encode_decode',
    'encode_decode_part',
    'find_halo',
    'find_stride',
]

#: Leaves that see a window of fixed size, or a pixel; activations beside.
LOCAL = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Upsample,
    nn.Identity,
    _BatchNorm,
    _DropoutNd,
)
ACTIVATIONS = ('torch.nn.modules.activation', 'mmcv.cnn.bricks')
#: Length of the strip of the probe, in strides; half of it can be seen.
LENGTH = 64
#: What was found: of a model, by the stride and what the model is made of.
_found: weakref.WeakKeyDictionary[nn.Module, dict[tuple, int]] = (
    weakref.WeakKeyDictionary()
)


def classify(model: nn.Module, logits: Tensor) -> Tensor:
    """Find the classes (B, 1, H, W) of logits (B, classes, H, W)."""
    if logits.shape[1] > 1:
        return logits.argmax(1, keepdim=True)
    head: Any = model.decode_head  # a binary one with one channel
    return (logits.sigmoid() > head.threshold).long()


def encode_decode(model: nn.Module, x: Tensor) -> Tensor:
    """Compute logits (B, classes, H, W) of prepared images (B, 3, H, W)."""
    run: Any = model.encode_decode
    return run(x, _metas(x))


def encode_decode_part(
    model: nn.Module,
    x: Tensor,
    part: tuple[slice, slice],
    needed: Callable[[], bool],
) -> Tensor | None:
    """Compute logits of a part of the images.

    The net runs over all of them. That only the part's logits are brought to
    full size, and none where none are needed, saves half of the time of a
    light net.

    Args:
        model (nn.Module): An EncoderDecoder of mmseg.
        x (Tensor): Prepared images (B, 3, H, W).
        part (tuple[slice, slice]): Rows and columns, on the model's stride.
        needed (Callable): Asked when the net has run: whether there is a use
            for logits.

    Returns:
        Tensor | None: (B, classes, h, w), or None if they are not needed.
    """
    segmentor: Any = model
    head = segmentor.decode_head
    kind = type(segmentor).encode_decode, type(head).predict
    if kind != (EncoderDecoder.encode_decode, BaseDecodeHead.predict):
        logits = encode_decode(model, x)
        return logits[(..., *part)] if needed() else None
    logits = head(segmentor.extract_feat(x))
    if not needed():
        return None
    inner = []
    for axis, along in enumerate(part, 2):
        size = logits.shape[axis]
        stride = x.shape[axis] // size
        # Beside it a pixel that interpolation looks at; at the border none.
        first = max(along.start // stride - 1, 0)
        last = min(-(-along.stop // stride) + 1, size)
        logits = logits.narrow(axis, first, last - first)
        start = along.start - first * stride
        inner.append(slice(start, start + along.stop - along.start))
    part_of = x.new_empty(len(x), 0, *(n * stride for n in logits.shape[2:]))
    logits = head.predict_by_feat(logits, _metas(part_of))
    return logits[(..., *inner)]


def _metas(x: Tensor) -> list[dict]:
    size = tuple(x.shape[2:])
    return [dict(img_shape=size, pad_shape=size, ori_shape=size)] * len(x)


def check_local(model: nn.Module) -> None:
    """Refuse a segmentor with a part that needs more than a window.

    Raises:
        UserError: It is named, with the reason.
    """
    if not hasattr(model, 'encode_decode'):
        raise UserError(
            f'tiles are for an EncoderDecoder of mmseg, got a '
            f'{type(model).__name__}'
        )
    if model.training:
        raise UserError('the model is in training mode; call eval()')
    for part in ('backbone', 'neck', 'decode_head'):
        whole = getattr(model, part, None)
        if whole is None:
            continue
        for name, module in whole.named_modules(prefix=part):
            reason = _why_not(module)
            if reason:
                raise UserError(
                    f'the model is not exact in tiles: {name}, a '
                    f'{type(module).__name__}, {reason}; predict on the whole '
                    'image, or on crops'
                )


def _why_not(module: nn.Module) -> str | None:
    kind = type(module)
    upsample = getattr(module, 'upsample_cfg', None) or {}
    if getattr(module, 'align_corners', None) or upsample.get('align_corners'):
        return 'has align_corners=True, which scales by the size of the map'
    if isinstance(module, AttentionBlock2d) and not isinstance(
        module, ExternalAttention2d
    ):
        return 'reads other tokens, and not only memories'
    if isinstance(module, _BatchNorm) and module.running_mean is None:
        return 'normalises by the statistics of its input'
    if any(True for _ in module.children()) or '.losses' in kind.__module__:
        return None
    if isinstance(module, ExternalAttention2d):  # folded
        return None
    if isinstance(module, nn.modules.pooling._AdaptiveAvgPoolNd):
        return 'pools the whole map'
    if isinstance(module, LOCAL) or kind.__module__.startswith(ACTIVATIONS):
        return None
    if 'Upsample' in kind.__name__:  # mmseg's
        return None
    return 'is not known to see a window alone'


@torch.no_grad()
def find_stride(model: nn.Module) -> int:
    """Find a multiple of 32 and of the strides of all the model's maps."""
    check_local(model)
    weight = next(p for p in model.parameters() if p.dim() == 4)
    strides: set[int] = set()
    x = weight.new_zeros(1, weight.shape[1], 256, 256)
    with _noting_strides(model, x.shape[3], strides):
        _run_pointwise(model, x)
    # One as large as the image is no stride: find_halo() will tell.
    return lcm(32, *(found for found in strides if found < x.shape[3]))


@torch.no_grad()
def find_halo(model: nn.Module, *, stride: int | None = None) -> int:
    """Find how far a pixel reaches, by NaN.

    A strip of an image gets NaN in one block of ``stride`` pixels, and the
    logits show where it comes out; external attention, which has statistics of
    its own for the while, lets it stay where it is. Found once for a model, as
    long as its modules stay what they are.

    Args:
        model (nn.Module): An EncoderDecoder of mmseg in eval mode.
        stride (int | None): A multiple of the strides of all the model's
            maps. Default: None, what :func:`find_stride` gives.

    Returns:
        int: Pixels, a multiple of ``stride``.

    Raises:
        UserError: It reaches all over the strip, a map has another stride, or
            the model gives NaN by itself.
    """
    check_local(model)
    stride = find_stride(model) if stride is None else stride
    made_of = tuple((name, type(m)) for name, m in model.named_modules())
    known = _found.setdefault(model, {})
    if (stride, made_of) not in known:
        known[stride, made_of] = _probe(model, stride)
    return known[stride, made_of]


def _probe(model: nn.Module, stride: int) -> int:
    weight: Tensor = next(p for p in model.parameters() if p.dim() == 4)
    if weight.dtype not in (torch.float32, torch.float64):
        # In half precision a kernel may let NaN into pixels that it is not
        # for.
        model, weight = deepcopy(model).float(), weight.float()
    strides: set[int] = set()
    with torch.autocast(weight.device.type, enabled=False):
        x = weight.new_zeros(1, weight.shape[1], 2 * stride, 4 * stride)
        with _noting_strides(model, x.shape[3], strides):
            logits = _run_pointwise(model, x)
        if logits.isnan().any():
            raise UserError('the model gives NaN: look at its weights')
        wrong = [found for found in strides if stride % found]
        if wrong:
            raise UserError(
                f'stride must be a multiple of the strides of all maps of the '
                f'model, got {stride=} and a map of stride {max(wrong)}'
            )
        return max(
            _reach(model, weight, stride, turned) for turned in (False, True)
        )


def _reach(model: nn.Module, weight: Tensor, stride: int, turned: bool) -> int:
    start = LENGTH // 2 * stride
    stop, length = start + stride, LENGTH * stride
    x = weight.new_zeros(1, weight.shape[1], 2 * stride, length)
    x[..., start:stop] = torch.nan
    logits = _run_pointwise(model, x.mT if turned else x)
    hit = (logits.mT if turned else logits).isnan().any(2).any(1)[0]
    places = hit.nonzero().flatten()
    first, last = int(places[0]), int(places[-1])
    if first == 0 or last == length - 1:
        raise UserError(
            'the model is not exact in tiles: a pixel of the image '
            f'reaches {length // 2} pixels and more, as by a pooling or '
            'an attention over the whole map; predict on the whole image, '
            'or on crops'
        )
    reach = max(start - first, last + 1 - stop)
    return -(-reach // stride) * stride


@contextmanager
def _noting_strides(
    model: nn.Module, length: int, strides: set[int]
) -> Iterator[None]:
    """Note the strides of all maps, of images of a length."""

    def note(module: nn.Module, inputs: object, out: object) -> None:
        if isinstance(out, Tensor) and out.dim() == 4:
            strides.add(-(-length // out.shape[3]))

    parts = [
        module
        for name in ('backbone', 'neck', 'decode_head')
        for module in getattr(model, name, nn.Identity()).modules()
    ]
    hooks = [part.register_forward_hook(note) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run_pointwise(model: nn.Module, x: Tensor) -> Tensor:
    def answer(
        name: str, logits: Tensor, mask: object, size: object
    ) -> TokenStats:
        zeros = logits.new_zeros(1, logits.shape[1])
        return TokenStats(zeros, zeros + 1)

    note_sizes(x)
    with ExitStack() as stack:
        with suppress(ValueError):  # no layer of external attention
            stack.enter_context(answering(model, answer))
        return encode_decode(model, x)
