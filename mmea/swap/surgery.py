"""Swap the attention of a built model, in place."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmea.layers import AttentionBlock2d
from mmea.profiling import count_parameters

from .adapters import TokenAttention, WindowTokens, build_replacement
from .count import count_forward, looks_like_attention
from .eligibility import obstacle
from .report import Site, SwapReport
from .rules import Rule, kind_of

__all__ = ['swap_attention']


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
    checked = [Rule(rule) for rule in rules]
    report = SwapReport()
    plan = list(_plan(model, checked, report))
    report.unused = [str(rule.source) for rule in checked if not rule.used]
    before = count_parameters(model)
    macs = 0 if input_size is None else count_forward(model, input_size)
    for parent, attr, module in plan:
        # Not setattr(): a Sequential's children have numbers for names.
        parent._modules[attr] = module
    report.params = before, count_parameters(model)
    if input_size is not None:
        report.macs = macs, count_forward(model, input_size)
    if plan and hasattr(model, 'init_weights'):
        names = [site.name for site in report.replaced]
        earlier: Any = vars(model).get('init_weights')
        if getattr(earlier, 'func', None) is _init_weights:
            names += earlier.args[1]
        # A partial of a plain function survives deepcopy and pickle.
        model.init_weights = partial(_init_weights, model, names)  # type: ignore[assignment]
    return report


def _plan(
    model: nn.Module, rules: list[Rule], report: SwapReport
) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (parent, attribute, new module); fill the report's lists."""
    if kind_of(type(model)) is not None:
        reason = 'it is the model itself; swap what holds it'
        report.left.append(_site([('', model)], reason))
        return
    # Of each module seen; None, where it stays.
    replacements: dict[nn.Module, nn.Module | None] = {}

    def walk(
        path: list[tuple[str, nn.Module]],
    ) -> Iterator[tuple[nn.Module, str, nn.Module]]:
        parent = path[-1][1]
        for attr, module in parent._modules.items():
            if module is None or isinstance(
                module, (AttentionBlock2d, TokenAttention)
            ):
                continue
            if module not in replacements:
                replacements[module] = None
                inner = [*path, (attr, module)]
                if kind_of(type(module)) is not None:
                    site, replacements[module] = _replace(inner, rules)
                    stays = replacements[module] is None
                    (report.left if stays else report.replaced).append(site)
                else:
                    if looks_like_attention(module):
                        reason = 'no known source, so no rule can name it'
                        report.left.append(_site(inner, reason))
                    yield from walk(inner)
            if (new := replacements[module]) is not None:
                yield parent, attr, new

    yield from walk([('', model)])


def _replace(
    path: list[tuple[str, nn.Module]], rules: list[Rule]
) -> tuple[Site, nn.Module | None]:
    """Build what replaces the last module of a path; None, if it stays."""
    site = _site(path)
    module = path[-1][1]
    rule = next((r for r in rules if r.matches(site.name, module)), None)
    if rule is None:
        site.reason = _why_unmatched(site.name, module, rules)
        return site, None
    rule.used = True
    new: nn.Module | str | None = obstacle(path)
    if new is None:
        try:
            new = build_replacement(module, rule.target)
        except (TypeError, ValueError) as error:
            raise type(error)(f'{site.name}: {error}') from error
    if isinstance(new, str):
        site.reason = new
        return site, None
    old = list(module.parameters())
    if old:
        new.to(device=old[0].device, dtype=old[0].dtype)
    new.train(module.training)
    if old and not any(param.requires_grad for param in old):
        new.requires_grad_(False)
        site.reason = 'frozen, as what it replaces: it will not learn'
    site.target = type(getattr(new, 'attention', new)).__name__
    site.params = _size(module), _size(new)
    return site, new


def _site(path: list[tuple[str, nn.Module]], reason: str = '') -> Site:
    name = '.'.join(attr for attr, _ in path[1:])
    return Site(name, type(path[-1][1]).__name__, reason=reason)


def _why_unmatched(name: str, module: nn.Module, rules: list[Rule]) -> str:
    """Say that no rule matches; one that matches what is inside is used."""
    reason = 'no rule matches'
    for inner in module.modules():
        for rule in rules:
            if rule.matches(name, inner):
                rule.used = True
                reason = (
                    f'a rule matches the {type(inner).__name__} inside, but '
                    f'it is replaced as a whole; name {kind_of(type(module))} '
                    'as the source'
                )
    return reason


def _size(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def _init_weights(model: Any, names: list[str]) -> None:
    """Run the host's init_weights(), without the last word on new modules.

    Hosts run Kaiming or Xavier over all that has a weight.
    """
    loaded: set[str] = set()
    before: dict[str, dict[str, Tensor]] = {}
    handles = []
    for name in names:
        # What the host loads from a checkpoint stays.
        def note(
            module: nn.Module,
            state_dict: dict,
            prefix: str,
            *args: Any,
            name: str = name,
        ) -> None:
            if any(prefix + key in state_dict for key in before[name]):
                loaded.add(name)

        module = model.get_submodule(name)
        before[name] = {
            key: param.detach().clone()
            for key, param in module.named_parameters()
        }
        handles.append(module.register_load_state_dict_pre_hook(note))
        if isinstance(module, WindowTokens):
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


def _add_bias_table(
    module: nn.Module, state: dict, prefix: str, *args: Any
) -> None:
    """mmdet's Swin looks for the table of each that its weights file has.

    Of another size, it is passed over.
    """
    state[f'{prefix}w_msa.relative_position_bias_table'] = torch.empty(0, 0)
