from .cls_picture_hook import ClsPictureHook
from .det_picture_hook import DetPictureHook
from .seg_label_check_hook import SegLabelCheckHook
from .seg_picture_hook import SegPictureHook

__all__ = [
    'ClsPictureHook',
    'DetPictureHook',
    'SegLabelCheckHook',
    'SegPictureHook',
]
