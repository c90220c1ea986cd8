"""Attention surgery on built models of mmseg and mmdet.

:func:`swap_attention` puts members of the family where a model has non-local
blocks or self-attention; ``type='mmea.SwapAttention'`` does so from a config.
Classes of the stack are known by name, so that neither mmseg nor mmdet needs
to be there.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.utils import get_object_from_string
from torch import Tensor, nn

from mmea.layers import AttentionBlock2d
from mmea.measure import count_macs, count_parameters
from mmea.models import build_attention
from mmea.registry import MODELS

__all__ = ['SOURCES', 'SwapReport', 'swap_attention']

_MMCV = 'mmcv.cnn.bricks'
#: Names that a rule's ``source`` may have: the classes that they stand for.
#: A subclass comes before its base.
SOURCES = {
    'DisentangledNonLocal2d': (
        'mmseg.models.decode_heads.dnl_head.DisentangledNonLocal2d',
    ),
    'NonLocal2d': (f'{_MMCV}.non_local.NonLocal2d',),
    'ContextBlock': (f'{_MMCV}.context_block.ContextBlock',),
    'ShiftWindowMSA': (
        'mmseg.models.backbones.swin.ShiftWindowMSA',
        'mmdet.models.backbones.swin.ShiftWindowMSA',
    ),
    'EfficientMultiheadAttention': (
        'mmseg.models.backbones.mit.EfficientMultiheadAttention',
    ),
    'SpatialReductionAttention': (
        'mmdet.models.backbones.pvt.SpatialReductionAttention',
    ),
    'MultiheadAttention': (f'{_MMCV}.transformer.MultiheadAttention',),
    'torch.nn.MultiheadAttention': (
        'torch.nn.modules.activation.MultiheadAttention',
    ),
}
_MAPS = ('DisentangledNonLocal2d', 'NonLocal2d', 'ContextBlock')

# Self-attention by a name that does not say so.
_SELF = (
    ('mmseg.models.backbones.vit.TransformerEncoderLayer', 'attn'),
    ('mmseg.models.decode_heads.knet_head.KernelUpdateHead', 'attention'),
    ('mmdet.models.roi_heads.bbox_heads.dii_head.DIIHead', 'attention'),
)
# Hosts that hand a pairwise mask to the attention in this part of them.
_MASKED = (
    ('mmseg.models.text_encoder.clip_text_encoder.CLIPTextEncoder', ''),
    ('mmseg.models.decode_heads.san_head.RecWithAttnbias', ''),
    (
        'mmdet.models.layers.transformer.grounding_dino_layers.'
        'GroundingDinoTransformerEncoder',
        'text_layers',
    ),
)
# Arguments of a target.
_SET_BY_THE_PLACE = (
    'in_channels',
    'out_channels',
    'stride',
    'residual',
    'embed_dims',
    'batch_first',
)
# Parts of names; the last three are DANet's, EMANet's and PSANet's.
_LOOKS_LIKE_ATTENTION = (
    'Attention',
    'Attn',
    'MSA',
    'NonLocal',
    'CAM',
    'EMAModule',
    'PSAMask',
)


@dataclass
class Site:
    """One attention module of a model, and what became of it.

    ``reason`` is why it was left, or what to know about the replacement;
    ``params`` counts parameters before and after, trained or not.
    """

    name: str
    source: str
    target: str = ''
    reason: str = ''
    params: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        text = f'{self.name} ({self.source})'
        if self.target:
            text += ' -> {}, parameters {:,} -> {:,}'.format(
                self.target, *self.params
            )
        return f'{text}: {self.reason}' if self.reason else text


@dataclass
class SwapReport:
    """What :func:`swap_attention` did; ``print`` shows all of it.

    ``params`` are the trained parameters of the whole model before and after,
    ``macs`` its multiply-accumulates, where they were counted. ``unused``
    names the sources of rules that matched nothing, or nothing that an
    earlier rule had left them.
    """

    replaced: list[Site] = field(default_factory=list)
    left: list[Site] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] | None = None

    def __str__(self) -> str:
        lines = [f'Attention replaced: {len(self.replaced)}']
        lines += [f'  {site}' for site in self.replaced]
        lines += [f'Attention left: {len(self.left)}']
        lines += [f'  {site}' for site in self.left]
        lines += [f'A rule was not used: {name}' for name in self.unused]
        lines += ['Trained parameters: {:,} -> {:,}'.format(*self.params)]
        if self.macs:
            lines += ['Multiply-accumulates: {:,} -> {:,}'.format(*self.macs)]
        return '\n'.join(lines)


def swap_attention(
    model: nn.Module,
    rules: Sequence[dict],
    *,
    input_size: tuple[int, int] | None = None,
) -> SwapReport:
    """Replace attention modules of a built model. In place.

    The outermost attention module counts: mmcv's ``MultiheadAttention`` holds
    torch's, and is replaced as a whole. For each, the first rule that matches
    holds. Cross-attention is never replaced, nor what takes a pairwise mask,
    nor what cannot be told to be self-attention; the report says so.

    A module that works on maps becomes the target itself. One that works on
    tokens becomes an adapter around the target, with the call signature, the
    dropout and the residual of what it replaces; positions are added to the
    input, class tokens are tokens, ``key_padding_mask`` is the mask. A target
    that depends on where its pixels are goes only where the tokens come with
    height and width. All start as a layer whose attention is zero.

    Args:
        model (nn.Module): Any model; it must not be an attention module
            itself.
        rules (Sequence[dict]): Each with

            * ``source``: a name of :data:`SOURCES`, 'any' for all of them, a
              class or its dotted path. Subclasses match too.
            * ``target``: config of a registered layer, as ``attention`` of
              heads, without sizes of the map and ``residual``.
            * ``where`` (optional): a pattern like ``'backbone.*'`` for the
              name of the module. Default: everywhere.
        input_size (tuple[int, int] | None): Height and width of an image to
            count multiply-accumulates with, which runs the model twice.
            Default: None, they are not counted.

    Returns:
        SwapReport: What was replaced, and what was left and why.

    Raises:
        ValueError: A rule is not well-formed, or a target cannot be built;
            the model is as it was.
        TypeError: A target has an argument that its layer does not take.
    """
    rules = [_Rule(**_check_rule(rule)) for rule in rules]
    report = SwapReport()
    plan = list(_plan(model, rules, report))
    report.unused = [str(rule.source) for rule in rules if not rule.used]
    before = count_parameters(model)
    macs = None if input_size is None else _count_macs(model, input_size)
    for parent, attr, module in plan:
        # Not setattr(): a Sequential's children have numbers for names.
        parent._modules[attr] = module
    report.params = before, count_parameters(model)
    if macs is not None:
        report.macs = macs, _count_macs(model, input_size)
    if plan and hasattr(model, 'init_weights'):
        names = [site.name for site in report.replaced]
        earlier = vars(model).get('init_weights')
        if getattr(earlier, 'func', None) is _init_weights:
            names += earlier.args[1]
        # A partial of a plain function survives deepcopy and pickle.
        model.init_weights = partial(_init_weights, model, names)
    return report


@MODELS.register_module('SwapAttention')
def build_swapped(
    model: dict,
    rules: Sequence[dict],
    input_size: tuple[int, int] | None = None,
    **kwargs,
) -> nn.Module:
    """Build a model and swap its attention, for ``type='mmea.SwapAttention'``.

    The model itself comes back, so that its state_dict and all that the stack
    does with it are as ever.

    Args:
        model (dict): Config of any model.
        rules, input_size: See :func:`swap_attention`.
        **kwargs: Further keys of ``model``, merged over it as a config over
            its base. But a ``data_preprocessor`` holds only where ``model``
            has none: the Runner sets a default one here.

    Returns:
        nn.Module: The built model.

    Raises:
        ValueError: Nothing was replaced, or see :func:`swap_attention`.
    """
    if 'data_preprocessor' in model:
        kwargs.pop('data_preprocessor', None)
    cfg = Config(dict(model=model))
    cfg.merge_from_dict(dict(model=kwargs))
    built = MMENGINE_MODELS.build(cfg.model)
    report = swap_attention(built, rules, input_size=input_size)
    if not report.replaced:
        left = '; '.join(map(str, report.left)) or 'it has no attention'
        raise ValueError(f'nothing was swapped in this model: {left}')
    print_log(str(report), 'current')
    return built


def _init_weights(model: nn.Module, names: list[str]):
    """The host's init_weights(), without the last word on new modules.

    Hosts run Kaiming or Xavier over all that has a weight.
    """
    loaded = set()
    before = {}
    handles = []
    for name in names:
        # What the host loads from a checkpoint stays.
        def note(module, state_dict, prefix, *args, name=name):
            if any(prefix + key in state_dict for key in before[name]):
                loaded.add(name)

        module = model.get_submodule(name)
        before[name] = {
            key: param.detach().clone()
            for key, param in module.named_parameters()
        }
        handles.append(module.register_load_state_dict_pre_hook(note))
        if isinstance(module, _WindowTokens):
            handles.append(
                module.register_state_dict_post_hook(_add_bias_table)
            )
    type(model).init_weights(model)
    for handle in handles:
        handle.remove()
    for name in names:
        module = model.get_submodule(name)
        # A second call does nothing in mmengine, so it must not here.
        touched = any(
            not torch.equal(param, before[name][key])
            for key, param in module.named_parameters()
        )
        if touched and name not in loaded:
            module.init_weights()


def _add_bias_table(module: nn.Module, state: dict, prefix: str, *args):
    """mmdet's Swin looks for the table of each that its weights file has.

    Of another size, it is passed over.
    """
    state[f'{prefix}w_msa.relative_position_bias_table'] = torch.empty(0, 0)


@torch.no_grad()
def _count_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Of one image through the model, in eval mode, head included."""
    device = next(model.parameters()).device
    args = [torch.zeros(1, 3, *size, device=device)]
    kwargs = {}
    if 'mode' in inspect.signature(model.forward).parameters:
        kwargs['mode'] = 'tensor'
    if _is(type(model), 'mmdet.models.detectors.base.BaseDetector'):
        from mmdet.structures import DetDataSample

        names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        meta = dict(dict.fromkeys(names, tuple(size)), scale_factor=(1.0, 1.0))
        args.append([DetDataSample(metainfo=meta)])
    modes = {module: module.training for module in model.modules()}
    model.eval()
    # torch's fused attention is one operation, which nobody counts.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return count_macs(lambda: model(*args, **kwargs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode


# ---------------------------------------------------------------------- rules


def _is(cls: type, *names: str) -> bool:
    """Whether a class, or one that it inherits from, has such a name."""
    return any(
        f'{base.__module__}.{base.__qualname__}' in names
        for base in cls.__mro__
    )


def _kind(cls: type) -> str | None:
    """The key of SOURCES that tells how a class is called."""
    for kind, names in SOURCES.items():
        if _is(cls, *names):
            return kind
    return None


def _check_rule(rule: dict) -> dict:
    if isinstance(rule, dict):
        rule = {key: rule[key] for key in rule if key != '_scope_'}
    keys = {'source', 'target', 'where'}
    if not isinstance(rule, dict) or not (
        {'source', 'target'} <= rule.keys() <= keys
    ):
        raise ValueError(
            'rules is a list of dicts; each has the keys source and target, '
            f"and may have 'where', got {rule!r}"
        )
    if not isinstance(rule['target'], dict):
        raise ValueError(
            'target must be the config of a layer, such as '
            f"dict(type='mmea.ExternalAttention2d'), got {rule['target']!r}"
        )
    if not isinstance(rule.get('where', ''), str):
        raise ValueError(
            "where must be one pattern, such as 'backbone.*', got "
            f'{rule["where"]!r}; write a rule for each'
        )
    for name in _SET_BY_THE_PLACE:
        if name in rule['target']:
            raise ValueError(
                f'target.{name} is set by what is replaced; leave it out of '
                f'{rule["target"]}'
            )
    return rule


class _Rule:
    """A rule that was checked."""

    def __init__(self, source: str | type, target: dict, where: str = '*'):
        self.source, self.target, self.where = source, target, where
        self.used = False
        if source in SOURCES or source == 'any':
            return
        cls = source
        if isinstance(source, str):
            try:
                cls = get_object_from_string(source)
            except ImportError:
                cls = None
        if not inspect.isclass(cls) or _kind(cls) is None:
            raise ValueError(
                f'{source=} is unknown; choose any, {", ".join(SOURCES)}, '
                'or a subclass of one of these'
            )
        self.source = cls

    def matches(self, name: str, module: nn.Module) -> bool:
        if not fnmatchcase(name, self.where):
            return False
        if self.source == 'any':
            return _kind(type(module)) is not None
        if isinstance(self.source, str):
            return _is(type(module), *SOURCES[self.source])
        return isinstance(module, self.source)


# ----------------------------------------------------------------- the search


def _plan(
    model: nn.Module, rules: list[_Rule], report: SwapReport
) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (parent, attribute, new module); fill the report's lists."""
    seen = {}
    if _kind(type(model)) is not None:
        reason = 'it is the model itself; swap what holds it'
        report.left.append(Site('', type(model).__name__, reason=reason))
        return

    def walk(name: str, hosts: list[tuple[str, nn.Module]]):
        parent = hosts[-1][1]
        for attr, module in parent._modules.items():
            if module is None or isinstance(
                module, (AttentionBlock2d, TokenAttention)
            ):
                continue
            shared = module in seen
            path = f'{name}.{attr}' if name else attr
            if not shared:
                seen[module] = None
                if _kind(type(module)) is not None:
                    seen[module] = _replace(path, attr, module, hosts)
            if seen[module] is not None:
                yield parent, attr, seen[module]
            elif not shared and _kind(type(module)) is None:
                if _looks_like_attention(module):
                    reason = 'no known source, so no rule can name it'
                    leave(path, module, reason)
                yield from walk(path, [*hosts, (attr, module)])

    def leave(path: str, module: nn.Module, reason: str):
        report.left.append(Site(path, type(module).__name__, reason=reason))

    def _replace(path, attr, module, hosts) -> nn.Module | None:
        rule = next((r for r in rules if r.matches(path, module)), None)
        if rule is None:
            reason = 'no rule matches'
            for inner in module.modules():
                for other in rules:
                    if other.matches(path, inner):
                        other.used = True
                        reason = (
                            f'a rule matches the {type(inner).__name__} '
                            'inside, but it is replaced as a whole; name '
                            f'{_kind(type(module))} as the source'
                        )
            return leave(path, module, reason)
        rule.used = True
        reason = _signature(module) or _role(attr, module, hosts)
        if reason:
            return leave(path, module, reason)
        try:
            new, reason = _build(module, rule.target, _layer(hosts)[1])
        except (TypeError, ValueError) as error:
            raise type(error)(f'{path}: {error}') from error
        if reason:
            return leave(path, module, reason)
        old = list(module.parameters())
        if old:
            new.to(device=old[0].device, dtype=old[0].dtype)
        new.train(module.training)
        note = ''
        if old and not any(param.requires_grad for param in old):
            new.requires_grad_(False)
            note = 'frozen, as what it replaces: it will not learn'
        report.replaced.append(
            Site(
                path,
                type(module).__name__,
                type(getattr(new, 'attention', new)).__name__,
                note,
                (_size(module), _size(new)),
            )
        )
        return new

    yield from walk('', [('', model)])


def _size(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def _looks_like_attention(module: nn.Module) -> bool:
    names = [base.__name__ for base in type(module).__mro__]
    return any(
        part in name for name in names for part in _LOOKS_LIKE_ATTENTION
    )


def _layer(hosts: list[tuple[str, nn.Module]]) -> tuple[str, nn.Module]:
    """The layer that calls a module: the nearest that is no container."""
    for attr, host in reversed(hosts):
        if not isinstance(host, (nn.ModuleList, nn.Sequential)):
            return attr, host
    return hosts[0]


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)


def _signature(module: nn.Module) -> str | None:
    """Why a module cannot be called as its known base is."""
    kind = _kind(type(module))
    if kind in _MAPS:
        return None
    known = next(
        base
        for base in type(module).__mro__
        if f'{base.__module__}.{base.__qualname__}' in SOURCES[kind]
    )
    own = _parameters(module)
    if own != list(inspect.signature(known.forward).parameters):
        return f'its forward({", ".join(own)}) is not that of {kind}'
    if kind in ('EfficientMultiheadAttention', 'SpatialReductionAttention'):
        return None if module.batch_first else 'it is not batch_first'
    return None


def _role(attr: str, module: nn.Module, hosts) -> str | None:
    """Why a module is not, or may not be, unmasked self-attention.

    Nothing has run yet, so the place must tell.
    """
    kind = _kind(type(module))
    if kind not in ('MultiheadAttention', 'torch.nn.MultiheadAttention'):
        return None  # called with one sequence
    torch_attn = getattr(module, 'attn', module)
    if not getattr(torch_attn, '_qkv_same_embed_dim', True):
        return 'cross-attention: keys have another width'
    _, layer = _layer(hosts)
    # BaseTransformerLayer of mmcv writes the role onto the module.
    role = getattr(module, 'operation_name', attr)
    if 'cross' in role:
        return 'cross-attention'
    if role != 'self_attn' and not any(
        _is(type(layer), name) and attr == known for name, known in _SELF
    ):
        return (
            f'it cannot be told whether {attr!r} of {type(layer).__name__} '
            'is self-attention'
        )
    path = [*hosts, (attr, module)]
    for i, (_, host) in enumerate(path[:-1]):
        for name, part in _MASKED:
            if _is(type(host), name) and path[i + 1][0].startswith(part):
                return f'{type(host).__name__} hands it a pairwise mask'
        if getattr(host, 'use_nested_tensor', False):
            return (
                f'{type(host).__name__} reads its weights itself; build it '
                'with enable_nested_tensor=False'
            )
    names = [n for n, _ in layer.named_children()]
    names += getattr(layer, 'operation_order', None) or ()
    decoder = any('cross' in n or n == 'multihead_attn' for n in names)
    masks = [
        name
        for name in _parameters(layer)
        if 'mask' in name and 'padding' not in name and 'cross' not in name
    ]
    if decoder and masks:
        return (
            f'{type(layer).__name__} may hand it a pairwise mask '
            f'({", ".join(masks)})'
        )
    return None


# ------------------------------------------------------------ the replacement


def _build(
    module: nn.Module, target: dict, layer: nn.Module
) -> tuple[nn.Module | None, str | None]:
    """The new module, or why the target does not fit."""
    kind = _kind(type(module))
    if kind in _MAPS:
        if _is_for_tokens(target):
            return None, f'{target["type"]} is for tokens, and this is a map'
        return _member(target, module.in_channels), None
    width = _width(module)
    if _is_for_tokens(target):
        heads = getattr(module, 'w_msa', module).num_heads
        member = MODELS.build(
            dict(
                dict(num_heads=heads),
                **target,
                embed_dims=width,
                batch_first=True,
            )
        )
        return _ADAPTERS[kind](member, module, width), None
    member = _member(target, width)
    name = type(member).__name__
    if kind not in ('MultiheadAttention', 'torch.nn.MultiheadAttention'):
        return _ADAPTERS[kind](member, module, width), None
    if not _order_free(member):
        return None, (
            f'{name} depends on where its pixels are, and these tokens come '
            'without height and width'
        )
    if not member.supports_mask and any(
        'padding_mask' in param for param in _parameters(layer)
    ):
        return None, (
            f'{name} takes no padding mask, and {type(layer).__name__} may '
            'hand it one'
        )
    # No map of the batch: its padding says nothing of these tokens.
    for part in member.modules():
        if hasattr(part, 'padded'):
            part.padded = False
    return _ADAPTERS[kind](member, module, width), None


def _is_for_tokens(target: dict) -> bool:
    """Whether the target is called as mmcv's MultiheadAttention."""
    cls = _target_class(target)
    return (
        inspect.isclass(cls)
        and 'embed_dims' in inspect.signature(cls).parameters
        and 'identity' in inspect.signature(cls.forward).parameters
    )


def _member(target: dict, channels: int) -> AttentionBlock2d:
    cls = _target_class(target)
    if inspect.isclass(cls) and not issubclass(cls, AttentionBlock2d):
        raise ValueError(
            f'target {cls.__name__} is no layer of mmea for maps (an '
            'AttentionBlock2d)'
        )
    # A gate has no residual by default, but what is replaced has one.
    return build_attention(dict(target, residual=True), channels)


def _target_class(target: dict) -> object:
    kind = target.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind


def _width(module: nn.Module) -> int:
    if hasattr(module, 'w_msa'):
        return module.w_msa.embed_dims
    if hasattr(module, 'embed_dims'):
        return module.embed_dims
    return module.embed_dim


@torch.no_grad()
def _order_free(member: AttentionBlock2d) -> bool:
    """Whether tokens may be laid out as any map; seen by trying.

    With random parameters: as they start, all outputs may be alike.
    """
    member = copy.deepcopy(member).eval()
    generator = torch.Generator().manual_seed(0)
    for param in member.parameters():
        # So small that no softmax is sharp, which would blow up rounding.
        std = max(param.shape[1:].numel(), 1) ** -0.5
        nn.init.normal_(param, std=std, generator=generator)
    x = torch.randn(1, member.in_channels, 12, 1, generator=generator)
    order = torch.randperm(12, generator=generator)
    try:
        want = member(x)
        outs = [member(x.unflatten(2, (4, 3)).squeeze(4)).flatten(2)]
        outs += [member(x.unflatten(2, (2, 6)).squeeze(4)).flatten(2)]
        outs += [member(x[:, :, order])[:, :, order.argsort()].flatten(2)]
    except (RuntimeError, ValueError):  # not for every size of map
        return False
    want = want.flatten(2)
    return all(torch.allclose(out, want, 1e-3, 1e-4) for out in outs)


class TokenAttention(nn.Module):
    """A member on tokens, called as what it replaces.

    Args:
        attention (nn.Module): An AttentionBlock2d, which runs without its
            residual, or one that is called as mmcv's MultiheadAttention with
            ``batch_first``.
        host (nn.Module): What is replaced; its dropout is kept.
        embed_dims (int): Channels C.
    """

    def __init__(self, attention: nn.Module, host: nn.Module, embed_dims: int):
        super().__init__()
        self.attention = attention
        self.embed_dims = embed_dims
        self.batch_first = getattr(host, 'batch_first', True)
        inner = getattr(host, 'w_msa', host)
        self.proj_drop = getattr(inner, 'proj_drop', nn.Identity())
        drop = getattr(host, 'drop', nn.Identity())
        self.dropout_layer = getattr(host, 'dropout_layer', drop)
        self.init_weights()

    def init_weights(self):
        if not isinstance(self.attention, AttentionBlock2d):
            self.attention.init_weights()
            return
        # The host adds the residual, so the member is built and starts as with
        # its own: at zero.
        self.attention.residual = True
        self.attention.reset_parameters()
        self.attention.residual = False

    def attend(
        self,
        x: Tensor,
        hw_shape: tuple[int, int] | None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, C) to the same, dropout included, no residual."""
        mask = None
        if key_padding_mask is not None:
            # torch's: True, or minus infinity, where a key is left out.
            mask = key_padding_mask
            mask = mask < 0 if mask.is_floating_point() else mask.bool()
        if isinstance(self.attention, AttentionBlock2d):
            hw_shape = (x.shape[1], 1) if hw_shape is None else tuple(hw_shape)
            args = [x.mT.unflatten(2, hw_shape)]
            if mask is not None:
                args.append(~mask.unflatten(1, hw_shape))
            out = self.attention(*args).flatten(2).mT
        else:
            zero = x.new_zeros(())
            out = self.attention(x, identity=zero, key_padding_mask=mask)
        return self.dropout_layer(self.proj_drop(out))


class _WindowTokens(TokenAttention):
    """ShiftWindowMSA, over the whole map."""

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        return self.attend(query, hw_shape)


class _MapTokens(TokenAttention):
    """The efficient attention of SegFormer and PVT."""

    def forward(
        self,
        x: Tensor,
        hw_shape: tuple[int, int],
        identity: Tensor | None = None,
    ) -> Tensor:
        return (x if identity is None else identity) + self.attend(x, hw_shape)


class _Tokens(TokenAttention):
    """mmcv's MultiheadAttention."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        # Same objects, not same numbers: comparing those would cost a pass.
        if any(x is not None and x is not query for x in (key, value)) or (
            key_pos is not None and key_pos is not query_pos
        ):
            raise ValueError(
                'this attention was swapped as self-attention, but is called '
                'with other keys or values than queries, or with other '
                "positions of them; leave it out by 'where' of the rule"
            )
        _check_no_mask(attn_mask)
        if identity is None:
            identity = kwargs.get('residual')  # mmcv's old name of it
        if identity is None:
            identity = query
        x = query if query_pos is None else query + query_pos
        if not self.batch_first:
            x = x.transpose(0, 1)
        out = self.attend(x, key_padding_mask=key_padding_mask)
        return identity + (out if self.batch_first else out.transpose(0, 1))


class _TorchTokens(TokenAttention):
    """torch's MultiheadAttention; there are no weights to return."""

    # Read by torch's encoder layer: with None it takes no fused path.
    in_proj_bias = None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if key.shape != query.shape or value.shape != query.shape:
            raise ValueError(
                'this attention was swapped as self-attention, but is called '
                "with keys of another shape; leave it out by 'where' of the "
                'rule'
            )
        _check_no_mask(attn_mask)
        x = query if self.batch_first else query.transpose(0, 1)
        out = self.attend(x, key_padding_mask=key_padding_mask)
        return (out if self.batch_first else out.transpose(0, 1)), None


def _check_no_mask(attn_mask: Tensor | None):
    if attn_mask is not None:
        raise ValueError(
            'a pairwise mask (attn_mask) has no meaning for the attention '
            "that was swapped in; leave this place out by 'where' of the rule"
        )


_ADAPTERS = {
    'ShiftWindowMSA': _WindowTokens,
    'EfficientMultiheadAttention': _MapTokens,
    'SpatialReductionAttention': _MapTokens,
    'MultiheadAttention': _Tokens,
    'torch.nn.MultiheadAttention': _TorchTokens,
}
