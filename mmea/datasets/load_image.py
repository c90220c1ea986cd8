from mmcv.transforms import LoadImageFromFile

from mmea.errors import UserError
from mmea.registry import TRANSFORMS

__all__ = ['LoadImage']


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile, with an error that names the file.

    Raises:
        UserError: The image is missing or cannot be decoded.
    """

    def transform(self, results: dict) -> dict | None:
        try:
            return super().transform(results)
        except FileNotFoundError as error:
            raise UserError(
                f'image not found: {results["img_path"]}; the data set or '
                'its list of files is incomplete'
            ) from error
        except Exception as error:  # every decoder raises its own
            raise UserError(
                f'cannot decode the image {results["img_path"]} '
                f'({_first_line(error)}); replace the file or remove it from '
                'the data set'
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0] or type(error).__name__
