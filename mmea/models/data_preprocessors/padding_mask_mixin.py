from typing import Any

from mmengine.model import BaseDataPreprocessor

from mmea.models.padding_mask import note_sizes


class PaddingMaskMixin(BaseDataPreprocessor):
    """Added to a data preprocessor: note which part of a batch is image.

    Args:
        padding_mask (bool): ``False`` lets padding take part in the
            attention, as published. Default: True.
    """

    def __init__(
        self, *args: Any, padding_mask: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.padding_mask = padding_mask

    def forward(self, data: dict, training: bool = False) -> dict:
        sizes = [tuple(image.shape[-2:]) for image in data['inputs']]
        data = super().forward(data, training)
        if self.padding_mask:
            note_sizes(data['inputs'], self.valid_sizes(data, sizes))
        else:
            note_sizes(data['inputs'])
        return data

    def valid_sizes(
        self, data: dict, sizes: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Sizes in the padded batch, from those before it was padded."""
        return sizes
