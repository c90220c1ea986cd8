from mmseg.datasets.transforms import LoadAnnotations

from mmea.errors import UserError
from mmea.registry import TRANSFORMS

__all__ = ['LoadSegAnnotations']


@TRANSFORMS.register_module()
class LoadSegAnnotations(LoadAnnotations):
    """mmseg's LoadAnnotations, with an error that names the file.

    Raises:
        UserError: The label image is missing or cannot be decoded, or has
            another size than its image.
    """

    def transform(self, results: dict) -> dict:
        path = results['seg_map_path']
        try:
            results = super().transform(results)
        except FileNotFoundError as error:
            raise UserError(
                f'label image not found: {path}; every image needs one of '
                'the same name'
            ) from error
        except Exception as error:  # every decoder raises its own
            raise UserError(
                f'cannot decode the label image {path} '
                f'({type(error).__name__}); replace the file or remove it '
                'and its image from the data set'
            ) from error
        # ori_shape, because the image may have been resized before.
        size = results['gt_seg_map'].shape
        want = results.get('ori_shape', size)
        if size != tuple(want):
            raise UserError(
                f'the label image {path} is {size}, its image {want}; both '
                'must be (H, W) of one size, with one channel of class ids'
            )
        return results
