from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmea.errors import UserError
from mmea.layers._checks import check_flags, check_number, check_rates
from mmea.ops import gather_points
from mmea.registry import MODELS

__all__ = ['PointCloudDataPreprocessor']


@MODELS.register_module()
class PointCloudDataPreprocessor(BaseDataPreprocessor):
    """Stack clouds, normalise them and, in training, vary them.

    Takes ``inputs``, a list of clouds (N, C), coordinates first, and hands
    (B, C, N) to the model. What varies is drawn anew for each cloud; labels
    of points (``gt_parts``) go along. Further channels stay as they are.

    Args:
        normalize (bool): Move the mean of the coordinates to the origin, and
            the furthest point to distance 1. Default: True.
        dropout (float): A share of up to this many points, by chance, become
            copies of the first one. Default: 0; 0.875 is published.
        scale (tuple[float, float]): Each axis is scaled by a factor between
            these. Default: (1, 1); (2/3, 3/2) is published.
        shift (float): Each axis is then shifted by up to this. Default: 0;
            0.2 is published.
        shuffle (bool): Put the points into another order. Default: False;
            True is published.
        non_blocking (bool): Of mmengine's. Default: False.

    Raises:
        ValueError: An argument is out of its range.
        UserError: A cloud is no floating (N, C) with C of 3 or more, is of
            another size than the first of its batch, holds NaN or inf, or its
            ``gt_parts`` are not as many.

    Source: the augmentation of PCT_Pytorch.
    """

    def __init__(
        self,
        *,
        normalize: bool = True,
        dropout: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shift: float = 0.0,
        shuffle: bool = False,
        non_blocking: bool = False,
    ) -> None:
        check_flags(
            normalize=normalize, shuffle=shuffle, non_blocking=non_blocking
        )
        check_rates(dropout=dropout)
        check_number(0, shift=shift)
        if not isinstance(scale, (tuple, list)) or len(scale) != 2:
            raise ValueError(f'scale must be (lowest, highest), got {scale=}')
        for factor in scale:
            check_number(0, scale=factor)
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f'scale must be (lowest, highest), above 0, got {scale=}'
            )
        super().__init__(non_blocking)
        self.normalize = normalize
        self.dropout = dropout
        self.scale = scale
        self.shift = shift
        self.shuffle = shuffle

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """Stack, normalise, vary.

        Args:
            data (dict): ``inputs`` and, if there are any, ``data_samples``.
            training (bool): Default: False.

        Returns:
            dict: ``inputs``, (B, C, N), and ``data_samples``, new ones.
        """
        data = self.cast_data(data)
        clouds, samples = data['inputs'], data.get('data_samples')
        _check(clouds, samples)
        points = torch.stack(list(clouds))  # (B, N, C)
        xyz, more = points[..., :3], points[..., 3:]
        if self.normalize:
            xyz = xyz - xyz.mean(1, keepdim=True)
            radius = xyz.norm(dim=2, keepdim=True).amax(1, keepdim=True)
            # A cloud of one place stays there.
            xyz = xyz / radius.clamp(min=torch.finfo(xyz.dtype).tiny)
        if training:
            index = self._draw(points)
            size = (len(xyz), 1, 3)
            factor = xyz.new_empty(size).uniform_(*self.scale)
            offset = xyz.new_empty(size).uniform_(-self.shift, self.shift)
            xyz = xyz * factor + offset
            xyz, more = gather_points(xyz, index), gather_points(more, index)
            for sample, order in zip(samples or (), index):
                if 'gt_parts' in sample:
                    sample.gt_parts = sample.gt_parts[order]
        points = torch.cat([xyz, more], 2).transpose(1, 2).contiguous()
        return dict(inputs=points, data_samples=samples)

    def _draw(self, points: Tensor) -> Tensor:
        """Which point stands at each place, (B, N)."""
        batch, number = points.shape[:2]
        device = points.device
        index = torch.arange(number, device=device).expand(batch, -1)
        share = self.dropout * torch.rand(batch, 1, device=device)
        lost = torch.rand(batch, number, device=device) < share
        index = index.masked_fill(lost, 0)
        if self.shuffle:
            order = torch.rand(batch, number, device=device).argsort(1)
            index = index.gather(1, order)
        return index


def _check(
    clouds: Sequence[Tensor], samples: Sequence[BaseDataElement] | None
) -> None:
    """Name the first cloud that cannot be taken."""
    for i, cloud in enumerate(clouds):
        sample = samples[i] if samples else BaseDataElement()
        where = sample.get('path', f'cloud {i} of the batch')
        if (
            cloud.dim() != 2
            or cloud.shape[1] < 3
            or not cloud.is_floating_point()
        ):
            raise UserError(
                f'{where} must be floating (N, C), coordinates first, got '
                f'{cloud.dtype} {tuple(cloud.shape)}'
            )
        if cloud.shape != clouds[0].shape:
            raise UserError(
                f'{where} is {tuple(cloud.shape)} and the first of its batch '
                f'{tuple(clouds[0].shape)}; sample as many points of each, '
                'or set batch_size=1'
            )
        if not cloud.isfinite().all():
            row = int((~cloud.isfinite()).any(1).nonzero()[0])
            raise UserError(
                f'{where} holds NaN or inf, first in point {row}; remove '
                'such points from the file'
            )
        parts = sample.get('gt_parts')
        if parts is not None and parts.shape != cloud.shape[:1]:
            raise UserError(
                f'{where} has {len(cloud)} points and gt_parts of shape '
                f'{tuple(parts.shape)}; there must be one label for each'
            )
