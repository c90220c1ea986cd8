from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers._checks import (
    check_choice,
    check_flags,
    check_indices,
    check_number,
    check_positive,
)
from mmea.models.build_attention import build_attention, check_attention
from mmea.registry import MODELS

from .blocks import (
    Features,
    Hourglass,
    conv_norm,
    make_cost_volume,
    make_head,
    regress_disparity,
)
from .volume_attention import VolumeAttention

__all__ = ['PSMNet']

#: Of the sides of images and of ``max_disp``: the hourglasses halve twice
#: what is a quarter.
MULTIPLE = 16


@MODELS.register_module()
class PSMNet(BaseModel):
    """Pyramid Stereo Matching Network: the disparity of two views.

    Features of both images, with pyramid pooling, at a quarter of the size; a
    volume of the features that may match; 3D convolutions, stacked
    hourglasses or residual blocks; the mean of the softmax over disparities.

    Args:
        max_disp (int): Disparities are below it; a multiple of 16.
            Default: 192.
        form (str): 'hourglass', three, each with an output, or 'basic', four
            residual blocks with one. Default: 'hourglass'.
        channels (int): Width of features and volume; others are multiples of
            it. Default: 32.
        num_blocks (Sequence[int]): Residual blocks of the four stages of the
            features. Default: (3, 16, 3, 3).
        pool_sizes (Sequence[int]): Windows of the pyramid, at a quarter of
            the size. Default: (64, 32, 16, 8).
        attention (dict | None): Of a registered layer. Default: None.
        attention_place (str): 'concat', the 10 C channels in front of the
            last convolutions of the features; 'features', their C channels;
            or 'volume', the C channels behind the first 3D convolutions, see
            :class:`VolumeAttention`. Default: 'features'.
        loss_weights (Sequence[float]): Of the outputs, the last ones.
            Default: (0.5, 0.7, 1), as published.
        align_corners (bool): Of all resizing. The weights published in 2018
            are of True, today's torch takes that code for False.
            Default: False.
        data_preprocessor (dict | nn.Module | None): Such as
            ``dict(type='mmea.StereoDataPreprocessor')``. Default: None.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None, as published: normal of variance 2 / (k^n C').

    Shapes:
        Pairs (B, 2, 3, H, W), left image first, to disparities (B, H, W) in
        pixels: left pixel x is right pixel x - disparity.

    Raises:
        ValueError: An argument is out of its range.
        UserError: Pairs of another shape; attention that does not fit a
            volume; a sample without truth, in training.

    Source: arXiv:1803.08669, details from the authors' code.
    """

    def __init__(
        self,
        max_disp: int = 192,
        *,
        form: str = 'hourglass',
        channels: int = 32,
        num_blocks: Sequence[int] = (3, 16, 3, 3),
        pool_sizes: Sequence[int] = (64, 32, 16, 8),
        attention: dict | None = None,
        attention_place: str = 'features',
        loss_weights: Sequence[float] = (0.5, 0.7, 1.0),
        align_corners: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_positive(max_disp=max_disp, channels=channels)
        if max_disp % MULTIPLE:
            raise ValueError(
                f'max_disp must be a multiple of {MULTIPLE}, got {max_disp=}'
            )
        check_choice('form', form, ('hourglass', 'basic'))
        check_choice(
            'attention_place',
            attention_place,
            ('concat', 'features', 'volume'),
        )
        check_flags(align_corners=align_corners)
        check_attention(attention)
        num_blocks = check_indices(num_blocks, 'num_blocks')
        pool_sizes = check_indices(pool_sizes, 'pool_sizes')
        for name, sizes in (
            ('num_blocks', num_blocks),
            ('pool_sizes', pool_sizes),
        ):
            for size in sizes:
                check_positive(**{name: size})
        if len(num_blocks) != 4:
            raise ValueError(f'num_blocks must be four, got {num_blocks=}')
        for weight in loss_weights:
            check_number(0, loss_weights=weight)
        c = channels
        outputs = 3 if form == 'hourglass' else 1
        if len(loss_weights) < outputs:
            raise ValueError(
                f'loss_weights must be {outputs}, one of each output, got '
                f'{loss_weights=}'
            )
        self.loss_weights = tuple(loss_weights)[-outputs:]
        self.max_disp = max_disp
        self.align_corners = align_corners
        in_volume = attention_place == 'volume'
        width = c * (6 + len(pool_sizes)) if attention_place == 'concat' else c
        self.features = Features(
            c,
            num_blocks=num_blocks,
            pool_sizes=pool_sizes,
            align_corners=align_corners,
            attention=build_attention(
                None if in_volume else attention, width, padded=False
            ),
            place=attention_place,
        )
        self.entry = nn.Sequential(conv_norm(3, 2 * c, c), conv_norm(3, c, c))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv_norm(3, c, c), conv_norm(3, c, c, relu=False))
            for _ in range(1 if form == 'hourglass' else 4)
        )
        self.attention = None
        if in_volume and attention is not None:
            self.attention = VolumeAttention(attention, c)
        self.hourglasses = nn.ModuleList(
            Hourglass(c) for _ in range(3 if form == 'hourglass' else 0)
        )
        self.heads = nn.ModuleList(make_head(c) for _ in range(outputs))
        _init_as_published(self)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | Sequence[BaseDataElement]:
        """Run the model.

        Args:
            inputs (Tensor): Pairs, (B, 2, 3, H, W), left image first; H and W
                multiples of 16, but for 'predict', which pads with zeros at
                the top and the right, as published.
            data_samples (Sequence[BaseDataElement] | None): ``gt_disparity``
                (H, W), for the loss; NaN and inf are unknown. Default: None.
            mode (str): 'tensor' for disparities (B, H, W), 'loss' for a dict
                of the losses, 'predict' for the data samples (new ones if
                there are none) with ``pred_disparity`` (H, W).
                Default: 'tensor'.
        """
        check_choice('mode', mode, ('tensor', 'loss', 'predict'))
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.match(inputs)[-1]
        height, width = inputs.shape[-2:]
        top, right = -height % MULTIPLE, -width % MULTIPLE
        padded = F.pad(inputs, (0, right, top, 0))
        found = self.match(padded)[-1][:, top:, :width]
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in found]
        for sample, disparity in zip(data_samples, found, strict=True):
            sample.set_field(disparity, 'pred_disparity')
        return data_samples

    def loss(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None
    ) -> dict[str, Tensor]:
        """Compute the loss of each output, and the end-point error.

        Smooth L1 over the pixels whose true disparity is known and below
        ``max_disp``; 0 where there is none.
        """
        truth = self._truth(inputs, data_samples)
        valid = truth.isfinite() & (truth < self.max_disp)
        number = valid.sum().clamp(min=1)
        found = self.match(inputs)
        losses = {
            f'loss_{i + 1}': weight
            * F.smooth_l1_loss(y[valid], truth[valid], reduction='sum')
            / number
            for i, (weight, y) in enumerate(
                zip(self.loss_weights, found, strict=True)
            )
        }
        with torch.no_grad():
            error = (found[-1] - truth)[valid].abs().sum() / number
        return dict(losses, end_point_error=error)

    def match(self, pairs: Tensor) -> list[Tensor]:
        """Find the disparities of pairs, as each output has them.

        Args:
            pairs (Tensor): (B, 2, 3, H, W).

        Returns:
            list[Tensor]: (B, H, W) each; in evaluation of the last output
            alone.
        """
        self._check(pairs)
        # One after the other: each updates the statistics of the norms.
        left, right = (self.features(image) for image in pairs.unbind(1))
        x = self.entry(make_cost_volume(left, right, self.max_disp // 4))
        for block in self.blocks:
            x = block(x) + x
        if self.attention is not None:
            x = self.attention(x)
        costs = self._refine(x)
        return [
            regress_disparity(cost, align_corners=self.align_corners)
            for cost in (costs if self.training else costs[-1:])
        ]

    def _refine(self, volume: Tensor) -> list[Tensor]:
        """Make the costs of a volume, each on top of the one before."""
        if not self.hourglasses:
            return [self.heads[0](volume)]
        costs: list[Tensor] = []
        x, first_pre, post = volume, None, None
        for hourglass, head in zip(self.hourglasses, self.heads):
            x, pre, post = hourglass(x, first_pre, post)
            # As published, where the paper draws that of the one before.
            first_pre = pre if first_pre is None else first_pre
            x = x + volume
            costs.append(head(x) + costs[-1] if costs else head(x))
        return costs

    def _check(self, pairs: Tensor) -> None:
        shape = tuple(pairs.shape)
        if len(shape) != 5 or shape[1:3] != (2, 3):
            raise UserError(
                f'PSMNet takes pairs (B, 2, 3, H, W), got {shape}; '
                'mmea.StereoDataPreprocessor makes them'
            )
        if shape[3] % MULTIPLE or shape[4] % MULTIPLE:
            raise UserError(
                f'PSMNet takes images of multiples of {MULTIPLE} pixels, got '
                f"{shape[3]} x {shape[4]}; set the data set's crop_size, or "
                "take mode='predict', which pads"
            )

    def _truth(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None
    ) -> Tensor:
        found = []
        for i in range(len(inputs)):
            sample = data_samples[i] if data_samples else BaseDataElement()
            where = sample.get('img_path', f'pair {i} of the batch')
            truth = sample.get('gt_disparity')
            if truth is None or truth.shape != inputs.shape[-2:]:
                got = None if truth is None else tuple(truth.shape)
                raise UserError(
                    f'{where}: gt_disparity must be (H, W) = '
                    f'{tuple(inputs.shape[-2:])}, got {got}; train on pairs '
                    'whose disparity is known'
                )
            found.append(truth)
        return torch.stack(found)


@torch.no_grad()
def _init_as_published(module: nn.Module) -> None:
    """Initialise all convolutions but those of an attention."""
    for part in module.children():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            fan_out = part.weight[:, 0].numel()
            nn.init.normal_(part.weight, std=(2 / fan_out) ** 0.5)
        elif not hasattr(part, 'init_weights'):
            _init_as_published(part)
