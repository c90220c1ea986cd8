from .best_checkpoint_hook import BestCheckpointHook, keep_best
from .cls_picture_hook import ClsPictureHook
from .det_picture_hook import DetPictureHook
from .finite_loss_hook import FiniteLossHook
from .first_validation_hook import FirstValidationHook
from .last_validation_hook import LastValidationHook
from .paired_run_hook import PairedRunHook
from .plain_meta_hook import PlainMetaHook
from .seg_label_check_hook import SegLabelCheckHook
from .seg_picture_hook import SegPictureHook

__all__ = [
    'BestCheckpointHook',
    'ClsPictureHook',
    'DetPictureHook',
    'FiniteLossHook',
    'FirstValidationHook',
    'LastValidationHook',
    'PairedRunHook',
    'PlainMetaHook',
    'SegLabelCheckHook',
    'SegPictureHook',
    'keep_best',
]
