import torch.nn.functional as F
from torch import Tensor, nn

from mmea.layers._checks import (
    check_choice,
    check_flags,
    check_int,
    check_positive,
)
from mmea.registry import MODELS

from .blocks import (
    DiscriminatorBlock,
    FirstDiscriminatorBlock,
    build_block_attention,
    check_labels,
    init_orthogonal,
)
from .spectral_norm import add_spectral_norm

__all__ = ['SAGANDiscriminator']

#: Widths after each block, in ``base_channels``.
WIDTHS = {32: (2, 2, 2, 2), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16)}
#: How many of the blocks halve the map.
HALVING = {32: 2, 64: 4, 128: 5}


@MODELS.register_module()
class SAGANDiscriminator(nn.Module):
    """SAGAN's discriminator: an image and its class to a score.

    The score is ``linear(h) + embedding[label] . h``, h the sum over the
    pixels of the last map.

    Args:
        img_size (int): Of the square image: 32, 64 or 128. Default: 32.
        num_classes (int): K. 0 judges images alone. Default: 10.
        base_channels (int): Multiplies all widths. Default: 64.
        attention (dict | None): Any layer on maps, by its registered name;
            None is the network without. Default: None.
        attention_after (int): Number of the block, from 1, after which the
            attention is. Default: 1, as published.
        spectral_norm (bool): Divide every matrix by its spectral norm; else
            there are batch norms. Default: True.

    Shapes:
        (B, 3, img_size, img_size), from -1 to 1, and labels (B) to scores
        (B).

    Raises:
        ValueError: An argument is out of its range, or images or labels do
            not fit.

    Source: arXiv:1805.08318, the projection arXiv:1802.05637; widths, places
    and initialisation as in StudioGAN.
    """

    def __init__(
        self,
        img_size: int = 32,
        *,
        num_classes: int = 10,
        base_channels: int = 64,
        attention: dict | None = None,
        attention_after: int = 1,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        check_choice('img_size', img_size, WIDTHS)
        check_int(0, num_classes=num_classes)
        check_positive(base_channels=base_channels)
        check_flags(spectral_norm=spectral_norm)
        self.img_size = img_size
        self.num_classes = num_classes
        widths = [base_channels * factor for factor in WIDTHS[img_size]]
        norm = not spectral_norm
        self.blocks = nn.ModuleList(
            [FirstDiscriminatorBlock(3, widths[0], norm=norm)]
        )
        for i, pair in enumerate(zip(widths, widths[1:]), 1):
            self.blocks.append(
                DiscriminatorBlock(
                    *pair, downsample=i < HALVING[img_size], norm=norm
                )
            )
        if attention is not None:
            check_choice(
                'attention_after', attention_after, range(1, len(widths) + 1)
            )
            width = widths[attention_after - 1]
            self.blocks.insert(
                attention_after,
                build_block_attention(attention, width, spectral_norm),
            )
        self.linear = nn.Linear(widths[-1], 1)
        if num_classes:
            self.embedding = nn.Embedding(num_classes, widths[-1])
        init_orthogonal(self)
        if spectral_norm:
            add_spectral_norm(self)

    def extract_feats(self, images: Tensor) -> Tensor:
        """Sum the last map over its pixels, (B, C)."""
        want = (3, self.img_size, self.img_size)
        if images.shape[1:] != want:
            raise ValueError(
                f'images must be (B, {", ".join(map(str, want))}), got '
                f'{tuple(images.shape)}; resize them, or set img_size'
            )
        x = images
        for block in self.blocks:
            x = block(x)
        return F.relu(x).sum((2, 3))

    def score(self, feats: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score what :meth:`extract_feats` gave, (B)."""
        check_labels(labels, self.num_classes, len(feats))
        scores = self.linear(feats).squeeze(1)
        if self.num_classes:
            scores = scores + (self.embedding(labels) * feats).sum(1)
        return scores

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score each image as one of the class of its label, (B)."""
        return self.score(self.extract_feats(images), labels)
