from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmea.errors import UserError
from mmea.layers._checks import check_number
from mmea.registry import MODELS

__all__ = ['StereoDataPreprocessor']


@MODELS.register_module()
class StereoDataPreprocessor(BaseDataPreprocessor):
    """Stack pairs and normalise them.

    Takes ``inputs``, a list of pairs (2, 3, H, W), and hands (B, 2, 3, H, W)
    to the model.

    Args:
        mean, std (Sequence[float]): Of each channel, of values of 0 to 255.
            Default: ImageNet's.
        non_blocking (bool): Of mmengine's. Default: False.

    Raises:
        ValueError: There are not three of either.
        UserError: A pair is of another shape than (2, 3, H, W), or of another
            size than the first of its batch.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        *,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        for name, values in dict(mean=mean, std=std).items():
            if len(values) != 3:
                raise ValueError(f'{name} must be three, got {name}={values}')
            for value in values:
                check_number(**{name: value})
            tensor = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        """Stack and normalise.

        Args:
            data (dict): ``inputs`` and, if there are any, ``data_samples``.
            training (bool): Makes no difference. Default: False.

        Returns:
            dict: ``inputs``, (B, 2, 3, H, W), and ``data_samples``.
        """
        data = self.cast_data(data)
        pairs, samples = list(data['inputs']), data.get('data_samples')
        for i, pair in enumerate(pairs):
            where = f'pair {i} of the batch'
            if samples:
                where = samples[i].get('img_path', where)
            if pair.dim() != 4 or pair.shape[:2] != (2, 3):
                raise UserError(
                    f'{where} must be (2, 3, H, W), left image first, got '
                    f'{tuple(pair.shape)}'
                )
            if pair.shape != pairs[0].shape:
                raise UserError(
                    f'{where} has {tuple(pair.shape[2:])} pixels and the '
                    f'first of its batch {tuple(pairs[0].shape[2:])}; set '
                    'crop_size of the data set, or batch_size=1'
                )
        inputs = (torch.stack(pairs) - self.mean) / self.std
        return dict(inputs=inputs, data_samples=samples)
