from mmseg.models import SegDataPreProcessor as _SegDataPreProcessor

from mmea.registry import MODELS

from .padding_mask_mixin import PaddingMaskMixin

__all__ = ['SegDataPreProcessor']


@MODELS.register_module()
class SegDataPreProcessor(PaddingMaskMixin, _SegDataPreProcessor):
    """mmseg's, with a padding mask for the attention layers of the model.

    In a test by sliding windows a window has no mask of its own: where such
    batches are padded (``test_cfg`` has a size or a divisor), set
    ``padding_mask=False``.

    Args:
        mean, std (Sequence[float] | None): Of each channel, of any number
            of channels. Default: None, the images stay as they are.
        padding_mask (bool): ``False`` lets padding take part in the
            attention, as published. Default: True.
        args, kwargs: Of mmseg's SegDataPreProcessor.
    """
