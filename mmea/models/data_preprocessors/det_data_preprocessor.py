from mmdet.models import DetDataPreprocessor as _DetDataPreprocessor

from mmea.registry import MODELS

from .padding_mask_mixin import PaddingMaskMixin

__all__ = ['DetDataPreprocessor']


@MODELS.register_module()
class DetDataPreprocessor(PaddingMaskMixin, _DetDataPreprocessor):
    """mmdet's, with a padding mask for the attention layers of the model.

    Args:
        mean, std (Sequence[float] | None): Of each channel, of any number
            of channels. Default: None, the images stay as they are.
        padding_mask (bool): ``False`` lets padding take part in the
            attention, as published. Default: True.
        args, kwargs: Of mmdet's DetDataPreprocessor.
    """

    _channel_conversion: bool

    def forward(self, data: dict, training: bool = False) -> dict:
        # mmengine's forward would take three channels of more.
        turn = self._channel_conversion
        self._channel_conversion &= len(data['inputs'][0]) == 3
        try:
            return super().forward(data, training)
        finally:
            self._channel_conversion = turn

    def valid_sizes(
        self, data: dict, sizes: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        # A batch augmentation that resizes has changed img_shape with it.
        samples = data.get('data_samples') or [None] * len(sizes)
        return [
            getattr(sample, 'img_shape', size)
            for sample, size in zip(samples, sizes)
        ]
