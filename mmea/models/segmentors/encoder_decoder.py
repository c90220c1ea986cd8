from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder as _EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mmea.errors import UserError
from mmea.models.padding_mask import note_sizes, pop_sizes
from mmea.registry import MODELS

from .tile_probe import classify
from .tiled_run import TiledRun

__all__ = ['EncoderDecoder']

OPTIONS = 'core', 'halo', 'stride'
ALL = {'mode', 'keep_logits', *OPTIONS}


@MODELS.register_module()
class EncoderDecoder(_EncoderDecoder):
    """mmseg's, which also tests in tiles, with the numbers of the whole.

    ``test_cfg=dict(mode='exact_tiles', core=1024, halo='auto', stride=32)``
    stands beside mmseg's ``'whole'`` and ``'slide'``:
    :class:`~.tiled_run.TiledRun` tells the options. Logits are those of
    ``'whole'`` on images padded to the stride. With ``keep_logits=False`` in
    it the classes are found tile by tile and the samples have no
    ``seg_logits``, whose memory is the largest part of what is left; images
    must then come in their own size, and not by mmseg's SegTTAModel, which
    averages logits.

    Args:
        args, kwargs: Of mmseg's EncoderDecoder.

    Raises:
        UserError: In the test, as of :class:`~.tiled_run.TiledRun`; or
            ``keep_logits=False`` and an image was resized.
    """

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        if not self._tiled:
            return super().inference(inputs, batch_img_metas)
        return self._merge(inputs, lambda logits: logits)

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        if not self._tiled or self.test_cfg.get('keep_logits', True):
            return super().predict(inputs, data_samples)
        classes = self._merge(inputs, partial(classify, self))
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        for sample, found in zip(data_samples, classes):
            found = _undo(found, sample.metainfo)
            sample.pred_sem_seg = PixelData(data=found)
        return data_samples

    @property
    def _tiled(self) -> bool:
        return (self.test_cfg or {}).get('mode') == 'exact_tiles'

    def _merge(
        self, inputs: Tensor, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Bring what is made of the logits of tiles together."""
        whole: Any = None
        for rows, columns, logits in self._run(inputs):
            part = change(logits)
            if whole is None:
                size = (*part.shape[:2], *inputs.shape[2:])
                whole = part.new_empty(size)
            whole[..., rows, columns] = part
        return whole

    def _run(self, inputs: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        before = sizes = pop_sizes(inputs)
        size = inputs.shape[2], inputs.shape[3]
        masked = getattr(self.data_preprocessor, 'padding_mask', False)
        if sizes is None and masked:  # what is padded to the stride
            sizes = [size] * len(inputs)
        unknown = sorted(self.test_cfg.keys() - ALL)
        if unknown:
            raise UserError(
                f"test_cfg has {unknown[0]}, which mode='exact_tiles' does "
                f'not know: it takes {", ".join(sorted(ALL))}'
            )
        run = TiledRun(
            self, **{k: v for k, v in self.test_cfg.items() if k in OPTIONS}
        )

        def read(corners: tuple) -> tuple[Tensor, list | None]:
            top, left, bottom, right = corners
            x = inputs[..., top:bottom, left:right]
            missing = right - left - x.shape[3], bottom - top - x.shape[2]
            x = F.pad(x, (0, missing[0], 0, missing[1]))
            return x, sizes and [
                (
                    min(max(height - top, 0), bottom - top),
                    min(max(width - left, 0), right - left),
                )
                for height, width in sizes
            ]

        try:
            for tile, logits in run(read, size):
                if logits is not None:
                    yield *tile.image_part(), tile.without_padding(logits)
        finally:
            note_sizes(inputs, before)


def _undo(classes: Tensor, meta: dict) -> Tensor:
    """Take off what the pipeline and the preprocessor added, (1, H, W)."""
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    left, right, top, bottom = padding
    height, width = classes.shape[1:]
    classes = classes[:, top : height - bottom, left : width - right]
    if meta.get('flip'):
        along = 2 if meta.get('flip_direction') == 'horizontal' else 1
        classes = classes.flip(along)
    want = tuple(meta.get('ori_shape', classes.shape[1:])[:2])
    if tuple(classes.shape[1:]) != want:
        raise UserError(
            f'test_cfg has keep_logits=False, and an image of {want} came as '
            f'{tuple(classes.shape[1:])}: take Resize out of the test '
            'pipeline, or leave keep_logits out, so that logits are resized'
        )
    return classes
