"""What takes the place of an attention module, and is called as it."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmea.layers import AttentionBlock2d
from mmea.layers._checks import keep_input
from mmea.models import build_attention
from mmea.registry import MODELS

from .rules import BARE_TOKENS, MAPS, kind_of

__all__ = ['TokenAttention', 'WindowTokens', 'build_replacement']


def build_replacement(module: nn.Module, target: dict) -> nn.Module | str:
    """Build the new module, or say why the target does not fit.

    Args:
        module (nn.Module): What it replaces, of a kind of SOURCES.
        target (dict): Config of a registered layer.

    Returns:
        nn.Module | str: One of the two.

    Raises:
        ValueError: The target is no such layer, or cannot be built.
        TypeError: It has an argument that its layer does not take.
    """
    kind = kind_of(type(module)) or ''
    for_tokens = _is_for_tokens(target)
    if kind in MAPS:
        if for_tokens:
            return f'{target["type"]} is for tokens, and this is a map'
        return _build_for_maps(target, module.in_channels)  # type: ignore[arg-type]
    width = _width(module)
    if for_tokens:
        cfg = dict(target, embed_dims=width, batch_first=True)
        cfg.setdefault('num_heads', getattr(module, 'w_msa', module).num_heads)
        attention = MODELS.build(cfg)
    else:
        bare = kind in BARE_TOKENS
        # Those are no map of the batch: its padding says nothing of them.
        attention = _build_for_maps(target, width, padded=not bare)
        if bare and not _order_free(attention):
            return (
                f'{type(attention).__name__} depends on where its pixels are, '
                'and these tokens come without height and width'
            )
    return _ADAPTERS[kind](attention, module, width)


def _is_for_tokens(target: dict) -> bool:
    """Tell a target for tokens from one for maps; refuse any other class.

    What is no class counts as one for maps, and building it says so.
    """
    kind = target.get('type')
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(cls) or issubclass(cls, AttentionBlock2d):
        return False
    if (
        'embed_dims' not in inspect.signature(cls).parameters
        or 'identity' not in inspect.signature(cls.forward).parameters
    ):  # it is not called as mmcv's MultiheadAttention
        raise ValueError(
            f'target {cls.__name__} is no layer of mmea for maps (an '
            'AttentionBlock2d)'
        )
    return True


def _build_for_maps(
    target: dict, channels: int, *, padded: bool = True
) -> AttentionBlock2d:
    # A gate has no residual by default, but what is replaced has one.
    cfg = dict(target, residual=True)
    return build_attention(cfg, channels, padded=padded)  # type: ignore[return-value]


def _width(module: Any) -> int:
    if hasattr(module, 'w_msa'):
        return module.w_msa.embed_dims
    if hasattr(module, 'embed_dims'):
        return module.embed_dims
    return module.embed_dim


@torch.no_grad()
def _order_free(member: AttentionBlock2d) -> bool:
    """Tell whether tokens may be laid out as any map; seen by trying.

    With random parameters: as they start, all outputs may be alike.
    """
    member = keep_input(copy.deepcopy(member).eval())
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

    def __init__(
        self, attention: nn.Module, host: nn.Module, embed_dims: int
    ) -> None:
        super().__init__()
        self.attention = attention
        if isinstance(attention, AttentionBlock2d):
            attention.residual = False  # the host adds it
        self.embed_dims = embed_dims
        self.batch_first = getattr(host, 'batch_first', True)
        inner = getattr(host, 'w_msa', host)
        self.proj_drop = getattr(inner, 'proj_drop', nn.Identity())
        drop = getattr(host, 'drop', nn.Identity())
        self.dropout_layer = getattr(host, 'dropout_layer', drop)
        self.init_weights()

    def init_weights(self) -> None:
        if not isinstance(self.attention, AttentionBlock2d):
            self.attention.init_weights()  # type: ignore[operator]
            return
        # It starts as with a residual of its own.
        self.attention.reset_parameters()
        if self.attention.zero_init:
            self.attention.zero_output()

    def attend(
        self,
        x: Tensor,
        hw_shape: Sequence[int] | None = None,
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


class WindowTokens(TokenAttention):
    """ShiftWindowMSA, over the whole map."""

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        return self.attend(query, hw_shape)


class MapTokens(TokenAttention):
    """The efficient attention of SegFormer and PVT."""

    def forward(
        self,
        x: Tensor,
        hw_shape: tuple[int, int],
        identity: Tensor | None = None,
    ) -> Tensor:
        return (x if identity is None else identity) + self.attend(x, hw_shape)


class Tokens(TokenAttention):
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
        **kwargs: Any,
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


class TorchTokens(TokenAttention):
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


def _check_no_mask(attn_mask: Tensor | None) -> None:
    if attn_mask is not None:
        raise ValueError(
            'a pairwise mask (attn_mask) has no meaning for the attention '
            "that was swapped in; leave this place out by 'where' of the rule"
        )


_ADAPTERS = {
    'ShiftWindowMSA': WindowTokens,
    'EfficientMultiheadAttention': MapTokens,
    'SpatialReductionAttention': MapTokens,
    'MultiheadAttention': Tokens,
    'torch.nn.MultiheadAttention': TorchTokens,
}
