"""Converters, and the transforms that the configs name."""

from mmea.registry import TRANSFORMS, register_missing

from .load_image import LoadImage

try:
    from .load_seg_annotations import LoadSegAnnotations
except ImportError as error:
    (LoadSegAnnotations,) = register_missing(  # type: ignore[misc, assignment]
        TRANSFORMS, ['LoadSegAnnotations'], 'mmseg', error
    )

__all__ = ['LoadImage', 'LoadSegAnnotations']
