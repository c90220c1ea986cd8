from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmea.ops import TokenStats, double_norm, without_autocast

from ._checks import (
    check_dtype,
    check_flags,
    check_multiple,
    check_number,
    check_positive,
    check_rates,
    check_token_mask,
    check_tokens,
    make_module,
)
from ._forms import TwoForms, check_form, find_obstacle
from ._over_tokens import OverTokens

__all__ = ['MultiheadExternalAttention']


class MultiheadExternalAttention(TwoForms, OverTokens, nn.Module):
    """Multi-head external attention on tokens, in a self-attention's place.

    ``out_proj(heads of A(in_proj(x)) M_v)``: the heads, of D = embed_dims /
    num_heads channels each, share one key memory and one value memory of S
    slots; A is the double normalisation of each head's logits. There are
    ``expansion * num_heads`` heads. Called as mmcv's MultiheadAttention,
    whose place it takes in the ``attn_cfgs`` of a transformer layer.

    There are two ways to the same numbers. The plain form runs layer by
    layer, as published. The low-rank form multiplies each head's memories
    into the projections first, and never forms the wide tokens.
    :meth:`choose_form` tells which is taken and why.

    Args:
        embed_dims (int): Channels C of the tokens.
        num_heads (int): A divisor of ``embed_dims``.
        num_slots (int): Memory slots S. Default: 64.
        expansion (int): Heads are so many times ``num_heads``, and the wide
            tokens so many times C. Default: 4, as published; 1 is the
            paper's algorithm.
        memory_bias (bool): Biases of the two memories. That of the keys has
            no effect; it is published. Default: True.
        eps (float): Of the double normalisation. Default: 1e-9.
        attn_drop (float): Dropout of A. Default: 0.
        proj_drop (float): Dropout of the output. Default: 0.
        dropout_layer (Callable[[], nn.Module] | None): Makes what follows,
            before the residual. Default: None.
        batch_first (bool): Tokens are (B, N, C), not (N, B, C). Default:
            False, as mmcv's.
        form (str | None): 'plain', 'low_rank' (an error where that would not
            be exact) or 'auto'. Default: None, what the environment variable
            MMEA_EA_FORM says when the layer is made, else 'auto'.

    Shapes:
        ``key_memory`` and ``value_memory`` are (S, D), ``key_bias`` (S),
        ``value_bias`` (D).

    Raises:
        ValueError: A size is below 1, ``num_heads`` does not divide
            ``embed_dims``, a rate is not in [0, 1), ``eps`` is negative, or
            ``form`` is unknown or impossible.

    Example:
        >>> import torch
        >>> from mmea import MultiheadExternalAttention
        >>> layer = MultiheadExternalAttention(64, 4, batch_first=True)
        >>> tokens = torch.randn(2, 50, 64)  # (B, N, C)
        >>> layer(tokens).shape
        torch.Size([2, 50, 64])
        >>> layer(tokens, key=torch.randn(2, 9, 64))
        Traceback (most recent call last):
        ValueError: MultiheadExternalAttention has no cross-attention: ...

    Source: arXiv:2105.02358, multi-head external attention; expansion, eps,
    biases and initialisation from the authors' EAMLP.
    """

    key_bias: nn.Parameter | None
    value_bias: nn.Parameter | None
    deployed_value: Tensor
    deployed_bias: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        num_slots: int = 64,
        expansion: int = 4,
        memory_bias: bool = True,
        eps: float = 1e-9,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        dropout_layer: Callable[[], nn.Module] | None = None,
        batch_first: bool = False,
        form: str | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            embed_dims=embed_dims,
            num_heads=num_heads,
            num_slots=num_slots,
            expansion=expansion,
        )
        check_multiple(dict(num_heads=num_heads), embed_dims=embed_dims)
        check_number(0, eps=eps)
        check_rates(attn_drop=attn_drop, proj_drop=proj_drop)
        check_flags(memory_bias=memory_bias, batch_first=batch_first)
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.eps = eps
        self.batch_first = batch_first
        self.form = check_form(form)
        width = embed_dims // num_heads
        self.in_proj = nn.Linear(embed_dims, expansion * embed_dims)
        self.key_memory = nn.Parameter(torch.empty(num_slots, width))
        self.value_memory = nn.Parameter(torch.empty(num_slots, width))
        if memory_bias:
            self.key_bias = nn.Parameter(torch.empty(num_slots))
            self.value_bias = nn.Parameter(torch.empty(width))
        else:
            self.key_bias = self.value_bias = None
        self.out_proj = nn.Linear(expansion * embed_dims, embed_dims)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)
        self.dropout_layer = make_module(
            'dropout_layer', dropout_layer or nn.Identity
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self._refuse_deployed('has no weights left to initialise')
        for weight in (
            self.in_proj.weight,
            self.key_memory,
            self.value_memory,
            self.out_proj.weight,
        ):
            nn.init.normal_(weight, std=0.02)
        for bias in (
            self.in_proj.bias,
            self.key_bias,
            self.value_bias,
            self.out_proj.bias,
        ):
            if bias is not None:
                nn.init.zeros_(bias)

    def init_weights(self) -> None:
        """Initialise anew, after the host model has initialised itself."""
        self.reset_parameters()

    def choose_form(self, num_tokens: int) -> tuple[str, str]:
        """Tell which form an input of this many tokens takes, and why.

        Args:
            num_tokens (int): Of all images together.

        Returns:
            tuple[str, str]: 'plain' or 'low_rank', and the reason.

        Raises:
            ValueError: ``form='low_rank'``, and it would not be exact.
        """
        if self.deployed:
            return 'low_rank', 'switch_to_deploy() has folded the layer'
        return self._explain_form(num_tokens)

    def _count_products(self, num_tokens: int) -> tuple[int, int]:
        slots, wide = len(self.key_memory), self.in_proj.out_features
        plain = 2 * wide * (self.embed_dims + slots) * num_tokens
        columns = wide // self.key_memory.shape[1] * slots
        low_rank = 2 * self.embed_dims * columns * num_tokens
        low_rank += 2 * self.embed_dims * wide * slots
        return plain, low_rank

    def _obstacle(self) -> tuple | None:
        return find_obstacle(
            'in_proj', self.in_proj, nn.Linear
        ) or find_obstacle('out_proj', self.out_proj, nn.Linear)

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
        **kwargs: object,
    ) -> Tensor:
        """``identity + dropout_layer(proj_drop(attention))``.

        Args:
            query (Tensor): (N, B, C), or (B, N, C) with ``batch_first``.
            key, value (Tensor | None): ``query`` itself or None: there are no
                other keys than the memory.
            identity (Tensor | None): What is added. Default: None, ``query``.
            query_pos (Tensor | None): Added to ``query`` before attention.
            key_pos (Tensor | None): ``query_pos`` itself or None.
            attn_mask (None): Tokens do not meet, and there is no pair of them
                to mask.
            key_padding_mask (Tensor | None): bool (B, N), True = ignored:
                such a token enters no softmax over tokens, reads no memory,
                and its output is that of a token whose attention is zero.
            **kwargs: Not used; a transformer layer hands all it has to each
                of its parts.

        Returns:
            Tensor: As ``query``.

        Raises:
            ValueError: Cross-attention, a pairwise mask, or a
                ``key_padding_mask`` of another shape or dtype.
        """
        self._check_call(query, key, value, query_pos, key_pos, attn_mask)
        check_tokens('query', query, self.embed_dims)
        check_dtype('query', query, getattr(self, 'in_proj', None))
        self._check_folded('query', query)
        tokens = query if query_pos is None else query + query_pos
        if not self.batch_first:
            tokens = tokens.transpose(0, 1)  # (B, N, C)
        mask = None
        if key_padding_mask is not None:
            check_token_mask(
                'key_padding_mask', key_padding_mask, tokens, 'ignored'
            )
            mask = ~key_padding_mask
            # Padding may hold anything, and 0 times NaN in the gradient of a
            # weight would be NaN.
            tokens = tokens.masked_fill(key_padding_mask.unsqueeze(2), 0)
        low_rank = self.deployed or self._use_low_rank(
            tokens.shape[0] * tokens.shape[1]
        )
        out = (self._low_rank if low_rank else self._plain)(tokens, mask)
        if not self.batch_first:
            out = out.transpose(0, 1)
        identity = query if identity is None else identity
        return identity + self.dropout_layer(self.proj_drop(out))

    def _check_call(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        query_pos: Tensor | None,
        key_pos: Tensor | None,
        attn_mask: Tensor | None,
    ) -> None:
        for name, given, own, tensor in (
            ('key', key, 'query', query),
            ('value', value, 'query', query),
            ('key_pos', key_pos, 'query_pos', query_pos),
        ):
            if given is not None and given is not tensor:
                raise ValueError(
                    f'{type(self).__name__} has no cross-attention: its keys '
                    f'and values are learned memories. Got a {name} that is '
                    f"not {own}; leave it out, or keep mmcv's "
                    'MultiheadAttention in this place'
                )
        if attn_mask is not None:
            raise ValueError(
                f'{type(self).__name__} takes no attn_mask: tokens read '
                'memory slots and not each other, so there are no pairs to '
                'mask. For padding use key_padding_mask'
            )

    def _plain(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, C) to the same, layer by layer."""
        width = self.key_memory.shape[1]
        wide = self.in_proj(tokens).unflatten(2, (-1, width))
        logits = F.linear(wide, self.key_memory, self.key_bias)
        if self.stats_source() is not None:
            # Statistics are of the low-rank form's logits, without biases.
            bias = getattr(self.in_proj, 'bias', None)
            if bias is None:
                bias = wide.new_zeros(self.in_proj.out_features)
            heads = bias.unflatten(0, (-1, width))
            logits = logits - F.linear(heads, self.key_memory, self.key_bias)
        attn = self._normalise(logits.permute(0, 2, 3, 1), mask)
        attn = attn.permute(0, 3, 1, 2)  # (B, N, heads, S)
        out = F.linear(attn, self.value_memory.t(), self.value_bias)
        return self.out_proj(out.flatten(2))

    def _low_rank(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the same without the wide tokens."""
        with without_autocast(tokens):
            key, value, bias = self._fold()
        slots = key.shape[1]
        key, value, bias = (
            part.flatten(0, -2).to(tokens.dtype)
            for part in (key, value, bias[None])
        )
        batch = (tokens.shape[0], -1, -1)
        if key.requires_grad:
            logits = F.linear(tokens, key).mT
        else:
            # Slot by slot from the start, for the softmaxes to follow. With a
            # gradient, expand() would sum one of key's size for each image.
            logits = key.expand(batch).bmm(tokens.mT)  # (B, heads * S, N)
        attn = self._normalise(logits.unflatten(1, (-1, slots)), mask)
        attn = attn.flatten(1, 2).mT
        if value.requires_grad:
            return F.linear(attn, value.t(), bias[0])
        return torch.baddbmm(bias, attn, value.expand(batch))

    def _normalise(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise (B, heads, S, N) doubly, and drop out."""
        batch, heads = logits.shape[:2]
        source, stats = self.stats_source(), None
        if source is not None:
            # To whoever asks, the slots of all heads belong to one image.
            stats = source(logits.flatten(1, 2), mask)
            stats = TokenStats(
                *(
                    part.expand(batch, -1).reshape(batch * heads, -1)
                    for part in (stats.max, stats.sum)
                )
            )
        if mask is not None:
            mask = mask.repeat_interleave(heads, 0)
        attn = double_norm(
            logits.flatten(0, 1), eps=self.eps, mask=mask, stats=stats
        )
        return self.attn_drop(attn).unflatten(0, (-1, heads))

    def _fold(self) -> tuple[Tensor, Tensor, Tensor]:
        """Key and value memories, both (heads, S, C), and the bias (C)."""
        if self.deployed:
            return self.deployed_key, self.deployed_value, self.deployed_bias
        full = torch.promote_types(self.key_memory.dtype, torch.float32)
        heads = (-1, self.key_memory.shape[1])
        memory = self.key_memory.to(full)
        key = memory @ self.in_proj.weight.to(full).unflatten(0, heads)
        # A bias moves all logits of a slot alike, which the softmax over
        # tokens ignores. But in the graph it has to be, or DDP misses it.
        unused = self.in_proj.bias.sum()
        if self.key_bias is not None:
            unused = unused + self.key_bias.sum()
        key = key + 0 * unused.to(full)
        weight = self.out_proj.weight.to(full).unflatten(1, heads)
        value = weight @ self.value_memory.to(full).t()  # (C, heads, S)
        bias = self.out_proj.bias.to(full)
        if self.value_bias is not None:
            bias = bias + (weight @ self.value_bias.to(full)).sum(1)
        return key, value.permute(1, 2, 0), bias

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the projections into the memories for good. In place.

        What is left are two matrices (heads, S, C) and a bias, as buffers,
        for inference only: in training mode the layer raises an error, and
        its state_dict is no longer that of the trained layer. Called twice,
        it changes nothing.

        Raises:
            ValueError: The layer cannot be folded exactly.
        """
        if self.deployed:
            return
        self.check_foldable()
        self.eval()
        key, value, bias = self._fold()
        for name in (
            'in_proj',
            'out_proj',
            'key_memory',
            'value_memory',
            'key_bias',
            'value_bias',
        ):
            delattr(self, name)
        self.register_buffer('deployed_key', key)
        self.register_buffer('deployed_value', value.contiguous())
        # A buffer that is a parameter would be neither to torch.export.
        self.register_buffer('deployed_bias', bias.detach())

    def extra_repr(self) -> str:
        if self.deployed:
            heads, slots, _ = self.deployed_key.shape
            return (
                f'{self.embed_dims}, {heads} heads, num_slots={slots}, '
                f'batch_first={self.batch_first}, deployed'
            )
        slots, width = self.key_memory.shape
        heads = self.in_proj.out_features // width
        return (
            f'{self.embed_dims}, {heads} heads, num_slots={slots}, '
            f'batch_first={self.batch_first}, form={self.form!r}'
        )
