from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmea.errors import UserError
from mmea.models.padding_mask import note_sizes


class PaddingMaskMixin(BaseDataPreprocessor):
    """Added to a data preprocessor: note which part of a batch is image.

    Images may have any number of channels, where the stack's have one or
    three; the order of the colours is turned round only in three.

    Args:
        mean (Sequence[float] | None): Of each channel. Default: None, with
            ``std``: the images stay as they are.
        std (Sequence[float] | None): Of each channel.
        padding_mask (bool): ``False`` lets padding take part in the
            attention, as published. Default: True.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *args: Any,
        padding_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        if mean is None or std is None or len(mean) in (1, 3):
            super().__init__(mean, std, *args, **kwargs)
        else:
            if len(mean) != len(std):
                raise UserError(
                    'data_preprocessor: mean and std must have one value for '
                    f'each channel, got {len(mean)} and {len(std)}'
                )
            # The stack would refuse them.
            super().__init__(None, None, *args, **kwargs)
            self._enable_normalize = True
            for name, values in dict(mean=mean, std=std).items():
                buffer = torch.tensor(values).view(-1, 1, 1)
                self.register_buffer(name, buffer, persistent=False)
        self.padding_mask = padding_mask

    def forward(self, data: dict, training: bool = False) -> dict:
        sizes = [tuple(image.shape[-2:]) for image in data['inputs']]
        if self._enable_normalize:
            self._check_channels(data['inputs'])
        data = super().forward(data, training)
        if self.padding_mask:
            note_sizes(data['inputs'], self.valid_sizes(data, sizes))
        else:
            note_sizes(data['inputs'])
        return data

    def _check_channels(self, images: Sequence[torch.Tensor]) -> None:
        want = len(self.mean)
        wrong = {image.shape[-3] for image in images} - {want}
        if want == 3:
            wrong -= {1}  # grey
        if want > 1 and wrong:
            raise UserError(
                f'the images have {wrong.pop()} channels, data_preprocessor.'
                f'mean and std {want} values: give one for each channel, and '
                "read them all with color_type='unchanged' of the image loader"
            )

    def valid_sizes(
        self, data: dict, sizes: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Sizes in the padded batch, from those before it was padded."""
        return sizes
