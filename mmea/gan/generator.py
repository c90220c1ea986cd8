from torch import Tensor, nn

from mmea.layers._checks import (
    check_choice,
    check_flags,
    check_int,
    check_positive,
)
from mmea.registry import MODELS

from .blocks import (
    EPS,
    GeneratorBlock,
    build_block_attention,
    check_labels,
    init_orthogonal,
)
from .spectral_norm import add_spectral_norm

__all__ = ['SAGANGenerator']

#: Widths of the maps of 4 x 4, 8 x 8, ..., in ``base_channels``.
WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
}
#: The block after which the published attention is.
PLACES = {32: 2, 64: 3, 128: 4}


@MODELS.register_module()
class SAGANGenerator(nn.Module):
    """SAGAN's generator: noise and a class to an image.

    Args:
        img_size (int): Of the square image: 32, 64 or 128. Default: 32.
        num_classes (int): K. 0 makes images of no class. Default: 10.
        noise_channels (int): Z. Default: 128.
        base_channels (int): Multiplies all widths. Default: 64.
        attention (dict | None): Any layer on maps, by its registered name;
            None is the network without. Default: None.
        attention_after (int | None): Number of the block, from 1, after which
            the attention is. Default: None, as published: 2, 3 or 4 by the
            size of the image.
        spectral_norm (bool): Divide every matrix by its spectral norm.
            Default: True.

    Shapes:
        Noise (B, Z), labels (B) to (B, 3, img_size, img_size), from -1 to 1.

    Raises:
        ValueError: An argument is out of its range, or noise or labels do
            not fit.

    Example:
        >>> import torch
        >>> from mmea.gan import SAGANGenerator
        >>> net = SAGANGenerator(
        ...     base_channels=8, attention=dict(type='mmea.SAGANAttention2d')
        ... )
        >>> net(torch.randn(2, 128), torch.tensor([3, 9])).shape
        torch.Size([2, 3, 32, 32])

    Source: arXiv:1805.08318; widths, places and initialisation as in
    StudioGAN.
    """

    def __init__(
        self,
        img_size: int = 32,
        *,
        num_classes: int = 10,
        noise_channels: int = 128,
        base_channels: int = 64,
        attention: dict | None = None,
        attention_after: int | None = None,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        check_choice('img_size', img_size, WIDTHS)
        check_int(0, num_classes=num_classes)
        check_positive(
            noise_channels=noise_channels, base_channels=base_channels
        )
        check_flags(spectral_norm=spectral_norm)
        self.img_size = img_size
        self.num_classes = num_classes
        self.noise_channels = noise_channels
        widths = [base_channels * factor for factor in WIDTHS[img_size]]
        self.linear = nn.Linear(noise_channels, 16 * widths[0])
        self.blocks = nn.ModuleList(
            GeneratorBlock(*pair, num_classes)
            for pair in zip(widths, widths[1:])
        )
        if attention is not None:
            place = attention_after or PLACES[img_size]
            check_choice('attention_after', place, range(1, len(widths)))
            self.blocks.insert(
                place,
                build_block_attention(attention, widths[place], spectral_norm),
            )
        self.norm = nn.BatchNorm2d(widths[-1], eps=EPS)
        self.conv = nn.Conv2d(widths[-1], 3, 3, padding=1)
        init_orthogonal(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make an image of each row of noise, of the class of its label."""
        if noise.dim() != 2 or noise.shape[1] != self.noise_channels:
            raise ValueError(
                f'noise must be (B, {self.noise_channels}), got '
                f'{tuple(noise.shape)}'
            )
        check_labels(labels, self.num_classes, len(noise))
        x = self.linear(noise).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            if isinstance(block, GeneratorBlock):
                x = block(x, labels)
            else:
                x = block(x)
        return self.conv(self.norm(x).relu()).tanh()
