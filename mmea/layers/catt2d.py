from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._checks import (
    check_flags,
    check_positive,
    keep_input,
    make_module,
    pick_heads,
)
from .attention_block2d import AttentionBlock2d
from .catt_layer import CATTLayer

__all__ = ['CATT2d']


class CATT2d(AttentionBlock2d):
    """Causal attention (CATT): the image, and a dictionary of all images.

    ``attend(x) = out_proj([in-sample, cross-sample])``: a transformer layer
    on the image's own tokens beside one whose keys are K learned words, the
    same for all images. The in-sample part is quadratic in the number of
    tokens; any other layer of the family may stand there instead.

    Args:
        in_channels (int): Channels C, in and out.
        dictionary_size (int): Words K. Default: 500.
        num_heads (int | None): A divisor of ``in_channels``. Default: None,
            the largest up to 8.
        feedforward_channels (int | None): Default: None, 4 C.
        shared (bool): One set of weights for both parts. Default: False.
        in_sample (Callable[[int], nn.Module] | None): Makes the in-sample
            part from its width, such as :class:`EfficientAttention2d`; C
            channels in and out. Default: None, the transformer layer.
        dropout (float): Of the transformer layers. Default: 0.
        norm_layer, act_layer, residual, zero_init, with_cp: See
            :class:`AttentionBlock2d`.

    Shapes:
        (B, C, H, W) to (B, C, H, W); ``dictionary`` is (1, K, C).

    Raises:
        ValueError: A size is below 1, ``num_heads`` does not divide
            ``in_channels``, ``dropout`` is not in [0, 1), or ``shared`` meets
            an ``in_sample`` of its own.

    Example:
        >>> import torch
        >>> from mmea import CATT2d
        >>> layer = CATT2d(64, dictionary_size=100)
        >>> x = torch.randn(2, 64, 7, 5)
        >>> torch.equal(layer(x), x)  # it starts as the identity
        True
        >>> layer.dictionary.shape
        torch.Size([1, 100, 64])

    Source: arXiv:2103.03493; layer, fusion and the dictionary's start from
    the authors' LXMERT + CATT, which is for language and image regions. The
    form on maps is ours.
    """

    _abbr_ = 'catt2d'
    entry = 'out_proj'
    checkpoint_attend = False  # in_sample may have a batch norm

    def __init__(
        self,
        in_channels: int,
        *,
        dictionary_size: int = 500,
        num_heads: int | None = None,
        feedforward_channels: int | None = None,
        shared: bool = False,
        in_sample: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.0,
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
        check_positive(dictionary_size=dictionary_size)
        check_flags(shared=shared)
        if shared and in_sample is not None:
            raise ValueError(
                'shared=True is for the transformer layer: in_sample has no '
                'weights that the dictionary could be read with'
            )
        if num_heads is None:
            num_heads = pick_heads(in_channels)
        self.in_sample = make_module('in_sample', in_sample, in_channels)
        if self.in_sample is not None:
            keep_input(self.in_sample)  # which the dictionary's path reads too
        self.layer = CATTLayer(
            in_channels,
            num_heads,
            feedforward_channels=feedforward_channels,
            # With an in_sample only the path to the dictionary is needed.
            shared=shared or in_sample is not None,
            dropout=dropout,
        )
        self.dictionary = nn.Parameter(
            torch.empty(1, dictionary_size, in_channels)
        )
        # A norm brings its own bias.
        self.out_proj = nn.Conv2d(
            2 * in_channels, in_channels, 1, bias=norm_layer is None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()
        reset = getattr(self.in_sample, 'reset_parameters', None)
        if reset is not None:
            reset()
        nn.init.uniform_(self.dictionary, 0, 0.01)
        self.out_proj.reset_parameters()
        super().reset_parameters()

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.in_sample is None:
            return self.out_proj(self._checkpointed(self._read, x, mask))
        args = (x,) if mask is None else (x, mask)
        inside = self.in_sample(*args)
        return self.out_proj(
            torch.cat([inside, self._checkpointed(self._read, x, mask)], 1)
        )

    def _read(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Read the dictionary by the layer: (B, C or 2 C, H, W)."""
        tokens = x.flatten(2).transpose(-2, -1)  # (B, N, C)
        valid = None if mask is None else mask.flatten(1)
        dictionary = self.dictionary.to(x.dtype)
        if self.in_sample is None:
            out = torch.cat(self.layer(tokens, dictionary, valid), 2)
        else:
            out = self.layer.read_dictionary(tokens, dictionary, valid)
        return out.transpose(-2, -1).unflatten(2, x.shape[2:])

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, '
            f'dictionary_size={self.dictionary.shape[1]}'
        )
