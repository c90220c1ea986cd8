from collections.abc import Callable
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmea.ops import (
    external_attention,
    find_kernel_obstacle,
    is_traced,
    kernel_block,
    low_memory_block,
    low_rank_block,
    without_autocast,
)

from . import _norms
from ._checks import check_flags, check_number, check_positive
from ._forms import TwoForms, check_form, find_obstacle, has_hooks
from ._over_tokens import OverTokens
from .attention_block2d import AttentionBlock2d

__all__ = ['ExternalAttention2d']


class ExternalAttention2d(TwoForms, OverTokens, AttentionBlock2d):
    """External attention: every token reads S memory slots shared by all.

    ``attend(x) = out_proj(A(in_proj(x)) M_v)``, A the doubly normalised
    logits of the key memory. Cost is linear in the number of tokens.

    With ``norm_layer=nn.BatchNorm2d, act_layer=nn.ReLU, zero_init=False``
    this is the published block of EANet, initialisation included.

    There are two ways to the same numbers. The plain form runs layer by
    layer, as published. The low-rank form multiplies each projection with its
    memory first (S x C numbers) and never forms the C x C products over all
    tokens; a batch norm, frozen or not, synchronised or not, joins in. It is
    taken where it is exact and cheaper; :meth:`choose_form` tells which and
    why. Kernels in Triton compute the low-rank form on CUDA GPUs where asked
    for. Parameters and state_dict are the same in all.

    Args:
        in_channels (int): Channels C, in and out.
        num_slots (int): Memory slots S. Default: 64.
        channels (int | None): Width of the tokens that meet the memories.
            Default: None, as ``in_channels``.
        eps (float): Of the double normalisation. Default: 1e-9, as published.
        over_tokens (bool): False: softmax over the slots alone, a pointwise
            net with the same parameters: the control in a comparison.
            Default: True.
        form (str | None): 'plain', 'low_rank', 'kernel' (an error where that
            would not be exact) or 'auto', which takes the kernels only on GPUs
            that have confirmed them: none yet. Default: None, what the
            environment variable MMEA_EA_FORM says when the layer is made, else
            'auto'.
        inplace (bool): Write the output over the input, which must not be
            used again, where the low-rank form can and no gradient is
            recorded; never in training mode. Needs ``residual``.
            Default: False.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``key_memory`` and ``value_memory`` are
        (S, channels).

    Raises:
        ValueError: A size is below 1, ``eps`` is negative, ``form`` is
            unknown or impossible, or ``inplace`` is without ``residual``.

    Example:
        >>> import torch
        >>> from mmea import ExternalAttention2d
        >>> layer = ExternalAttention2d(64, num_slots=16)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True
        >>> layer.choose_form(x)[0]
        'low_rank'

        A batch with padding, of images of 7 x 3 and 7 x 5 tokens:

        >>> mask = torch.ones(2, 7, 5, dtype=torch.bool)
        >>> mask[0, :, 3:] = False
        >>> layer = ExternalAttention2d(64, zero_init=False)
        >>> alone = layer(x[:1, :, :, :3])
        >>> torch.allclose(layer(x, mask)[:1, :, :, :3], alone, atol=1e-4)
        True

    Source: arXiv:2105.02358; block, initialisation and eps from the authors'
    segmentation code.
    """

    _abbr_ = 'external_attention2d'
    entry = 'in_proj'
    inplace = False
    deployed_value: Tensor
    deployed_bias: Tensor | None
    deployed_key_bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        *,
        num_slots: int = 64,
        channels: int | None = None,
        eps: float = 1e-9,
        over_tokens: bool = True,
        form: str | None = None,
        inplace: bool = False,
        norm_layer: Callable[[int], nn.Module] | None = None,
        act_layer: Callable[[], nn.Module] | None = None,
        residual: bool = True,
        zero_init: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            norm_layer=norm_layer,
            act_layer=act_layer,
            residual=residual,
            zero_init=zero_init,
            with_cp=with_cp,
        )
        channels = in_channels if channels is None else channels
        check_positive(num_slots=num_slots, channels=channels)
        check_number(0, eps=eps)
        check_flags(over_tokens=over_tokens, inplace=inplace)
        if inplace and not residual:
            raise ValueError(
                'inplace=True needs residual=True: what is added to the input '
                'can be written over it; leave one of them out'
            )
        self.eps = eps
        self.over_tokens = over_tokens
        self.form = check_form(form, kernel=True)
        self.inplace = inplace
        self.in_proj = nn.Conv2d(in_channels, channels, 1)
        self.key_memory = nn.Parameter(torch.empty(num_slots, channels))
        self.value_memory = nn.Parameter(torch.empty(num_slots, channels))
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def zero_init_module(self) -> nn.Module:
        self._refuse_deployed('has no weights left to initialise')
        return super().zero_init_module()

    def reset_parameters(self) -> None:
        self._refuse_deployed('has no weights left to initialise')
        for conv in (self.in_proj, self.out_proj):
            conv.reset_parameters()  # the biases keep torch's default
            nn.init.normal_(conv.weight, std=(2 / conv.out_channels) ** 0.5)
        # The published memories start equal, as keys and values of
        # self-attention come from one map; each is trained by itself.
        nn.init.normal_(
            self.key_memory, std=(2 / self.key_memory.shape[1]) ** 0.5
        )
        with torch.no_grad():
            self.value_memory.copy_(self.key_memory)
        super().reset_parameters()

    def choose_form(self, x: Tensor) -> tuple[str, str]:
        """Tell which form an input of this size takes, and why.

        Args:
            x (Tensor): (B, C, H, W).

        Returns:
            tuple[str, str]: 'plain', 'low_rank' or 'kernel', and the reason.

        Raises:
            ValueError: ``form='low_rank'`` or ``'kernel'``, and it would not
                be exact, or the kernels cannot be taken.
        """
        if self.deployed:
            form, why = 'low_rank', 'switch_to_deploy() has folded the layer'
        else:
            form, why = self._explain_form(x[:, 0].numel())
        if form == 'plain':
            return form, why
        if self._takes_kernels(x):
            return 'kernel', why
        if self.form == 'auto' and x.is_cuda:
            why += f'; no kernels: {self._find_kernel_obstacle(x)}'
        return 'low_rank', why

    def _takes_kernels(self, x: Tensor) -> bool:
        # A graph to be kept has to run anywhere.
        if self.form not in ('auto', 'kernel') or is_traced():
            return False
        obstacle = self._find_kernel_obstacle(x)
        if obstacle is not None and self.form == 'kernel':
            raise ValueError(
                f"form='kernel' is impossible: {obstacle}; use form='auto' or "
                "'low_rank', here or in MMEA_EA_FORM"
            )
        return obstacle is None

    def _find_kernel_obstacle(self, x: Tensor) -> str | None:
        group = None
        if self.norm is not None and self._joins(self.norm):
            group = _norms.sync_group(self.norm)
        key = self.deployed_key if self.deployed else self.key_memory
        return find_kernel_obstacle(
            x,
            key.shape[0],
            group=group,
            over_tokens=self.over_tokens,
            stats=self.stats_source(),
            confirmed=self.form == 'auto',
        )

    def _check_input(self, x: Tensor, mask: Tensor | None) -> None:
        super()._check_input(x, mask)
        self._check_folded('x', x)

    def _count_products(self, num_tokens: int) -> tuple[int, int]:
        slots, channels = self.key_memory.shape
        return (
            2 * channels * (self.in_channels + slots) * num_tokens,
            2 * self.in_channels * slots * (num_tokens + channels),
        )

    def _obstacle(self) -> tuple | None:
        own = type(self).attend is not ExternalAttention2d.attend
        if own or 'attend' in vars(self):
            return '{} has an attend() of its own', type(self).__name__
        for name in ('in_proj', 'out_proj'):
            conv = getattr(self, name)
            obstacle = find_obstacle(name, conv, nn.Conv2d)
            if obstacle is not None:
                return obstacle
            if conv.weight[0].numel() != conv.in_channels or (
                conv.stride,
                conv.padding,
            ) != ((1, 1), (0, 0)):
                return '{} is no 1x1 convolution: {}', name, conv
        return None

    def _joins(self, norm: nn.Module | None) -> TypeGuard[_BatchNorm | None]:
        """Tell whether the low-rank form computes the norm itself.

        Otherwise it is called as a module.
        """
        if norm is None or self.deployed:
            return norm is None
        return (
            _norms.is_plain(norm)
            and not has_hooks(norm)
            and self.out_proj.bias is None
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check_input(x, mask)
        if not self.deployed and not self._use_low_rank(x[:, 0].numel()):
            return self._forward(x, mask, self.attend)
        if not self._joins(self.norm):
            return self._forward(x, mask, self._attend_low_rank)
        relu = type(self.act) is nn.ReLU and not has_hooks(self.act)
        out = self._low_rank(
            x, mask, self.norm, residual=self.residual, relu=relu
        )
        return out if relu or self.act is None else self.act(out)

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.deployed:
            return self._attend_low_rank(x, mask)
        tokens = self.in_proj(x).flatten(2)  # (B, c, N)
        stats = self.stats_source((x.shape[2], x.shape[3]))
        bias = getattr(self.in_proj, 'bias', None)
        if stats is not None and bias is not None:
            # Statistics are of the low-rank form's logits, without it.
            with without_autocast(x):
                bias = -self.key_memory @ bias
        out = external_attention(
            tokens,
            self.key_memory,
            self.value_memory,
            eps=self.eps,
            mask=None if mask is None else mask.flatten(1),
            over_tokens=self.over_tokens,
            key_bias=None if stats is None else bias,
            stats=stats,
        )
        return self.out_proj(out.unflatten(2, x.shape[2:]))

    def _attend_low_rank(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self._low_rank(x, mask, None, residual=False, relu=False)

    def _low_rank(
        self,
        x: Tensor,
        mask: Tensor | None,
        norm: _BatchNorm | None,
        *,
        residual: bool,
        relu: bool,
    ) -> Tensor:
        """Compute all up to the activation without C x C products."""
        with without_autocast(x):
            key, value, bias, weight = self._fold(norm)
            key_bias = None if self.over_tokens else self._fold_key_bias()
        group = None
        if norm is not None and weight is not None:
            group = _norms.sync_group(norm)
            one = not is_traced() and x[:, 0].numel() == 1
            if group is None and one:
                raise ValueError(
                    'a batch norm in training needs more than one token, got '
                    f'an input of size {tuple(x.shape)}'
                )
        # Under torch.compile autograd knows best what to keep.
        block = low_memory_block
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            # In training a reentrant checkpoint has no gradient at first, and
            # reads the input once more.
            inplace = self.inplace and not self.training
            block = partial(low_rank_block, inplace=inplace)
        if self._takes_kernels(x):
            block = kernel_block
        block = partial(
            block,
            eps=self.eps,
            norm_eps=1e-5 if norm is None else norm.eps,
            mask=None if mask is None else mask.flatten(1),
            residual=residual,
            relu=relu,
            group=group,
            over_tokens=self.over_tokens,
            key_bias=key_bias,
            stats=self.stats_source((x.shape[2], x.shape[3])),
        )
        if self._checkpoints():
            block = partial(checkpoint, block, use_reentrant=False)
        out, stats = block(x.flatten(2), key, value, bias, weight)
        if norm is not None and stats is not None:
            _norms.update_running(norm, stats)
        return out.unflatten(2, x.shape[2:])

    def _checkpoints(self) -> bool:
        # The second run may come later than who gives the statistics is here.
        return self.stats_source() is None and super()._checkpoints()

    def _fold(
        self, norm: _BatchNorm | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Memories that meet the input itself, and what follows them.

        Not cached in eval mode: a weight written through ``.data``, as an EMA
        hook does, leaves no trace by which a cache could know, and S C^2
        multiplications are little beside those of the tokens.
        :meth:`switch_to_deploy` folds for good.

        Returns:
            tuple: Key memory (S, C), value memory (S, C), the bias (C) and,
            where the norm takes the statistics of the batch, its weight (C).
        """
        if self.deployed:
            return (
                self.deployed_key,
                self.deployed_value,
                self.deployed_bias,
                None,
            )
        # Matrices in float32 or more, whatever the parameters are kept in.
        full = torch.promote_types(self.key_memory.dtype, torch.float32)
        key_memory = self.key_memory.to(full)
        key = key_memory @ self.in_proj.weight.flatten(1).to(full)
        # A bias moves all logits of a slot alike, which the softmax over
        # tokens ignores. But in the graph it has to be, or DDP misses it.
        key_bias = self._fold_key_bias()
        if self.over_tokens and key_bias is not None:
            key = key + 0 * key_bias[:, None]
        value = self.value_memory.to(full)
        value = value @ self.out_proj.weight.flatten(1).to(full).t()
        if norm is None:
            return key, value, self.out_proj.bias, None
        if _norms.uses_batch(norm):
            ones = value.new_ones(self.in_channels)
            weight = ones if norm.weight is None else norm.weight
            return key, value, norm.bias, weight
        scale, shift = _norms.as_affine(norm, full)
        return key, value * scale, shift, None

    def _fold_key_bias(self) -> Tensor | None:
        """Compute what in_proj's bias adds to the logits of each slot (S)."""
        if self.deployed:
            return self.deployed_key_bias
        if self.in_proj.bias is None:
            return None
        full = torch.promote_types(self.key_memory.dtype, torch.float32)
        return self.key_memory.to(full) @ self.in_proj.bias.to(full)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Fold the projections, and a batch norm, for good. In place.

        What is left are two S x C matrices and a bias (without
        ``over_tokens`` one of the logits too), as buffers, for inference
        only: in training mode the layer raises an error, and its state_dict
        is no longer that of the trained layer. Called twice, it changes
        nothing.

        Raises:
            ValueError: The layer cannot be folded exactly.
        """
        if self.deployed:
            return
        self.check_foldable()
        self.eval()
        norm = self.norm
        if not self._joins(norm) or norm is None or _norms.uses_batch(norm):
            norm = None
        key, value, bias, _ = self._fold(norm)
        key_bias = None if self.over_tokens else self._fold_key_bias()
        for name in ('in_proj', 'out_proj', 'key_memory', 'value_memory'):
            delattr(self, name)
        if norm is not None:
            self.norm = None
        self.register_buffer('deployed_key', key)
        self.register_buffer('deployed_value', value)
        # A buffer that is a parameter would be neither to torch.export.
        self.register_buffer(
            'deployed_bias', None if bias is None else bias.detach()
        )
        self.register_buffer('deployed_key_bias', key_bias)

    def extra_repr(self) -> str:
        end = '' if self.over_tokens else ', over_tokens=False'
        if self.deployed:
            return f'{self.in_channels}, deployed{end}'
        slots, channels = self.key_memory.shape
        return (
            f'{super().extra_repr()}, num_slots={slots}, {channels=}, '
            f'form={self.form!r}{end}'
        )
