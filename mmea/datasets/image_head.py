"""Size and orientation of an image, without its pixels."""

import warnings
from typing import IO, Any, NamedTuple

from PIL import Image

__all__ = ['Head', 'read_head']

# Numbers of tags.
ORIENTATION, WIDTH, HEIGHT = 274, 256, 257


class Head(NamedTuple):
    """What the head of an image file says.

    Attributes:
        size (tuple[int, int]): (H, W), as stored.
        orientation (int | None): EXIF's, 2 to 8; None if it is upright.
    """

    size: tuple[int, int]
    orientation: int | None

    @property
    def upright_size(self) -> tuple[int, int]:
        """(H, W), once it is turned."""
        turned = self.orientation in range(5, 9)
        return self.size[::-1] if turned else self.size


def read_head(file: str | IO[bytes]) -> Head | None:
    """Read the head of an image file of any size.

    Args:
        file (str | IO[bytes]): Path or open file.

    Returns:
        Head | None: None of what is no image that Pillow knows, or several.

    Raises:
        FileNotFoundError: There is no such file.
    """
    limit = Image.MAX_IMAGE_PIXELS
    # Pillow's guard is against decoding; aerial images are larger.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # odd metadata
            with Image.open(file) as image:
                tag = image.getexif().get(ORIENTATION)
                width, height = image.size
                if getattr(image, 'n_frames', 1) > 1:
                    return None  # bands may be pages
                if image.format == 'TIFF':  # Pillow tells its upright size
                    tags: Any = getattr(image, 'tag_v2')  # noqa: B009
                    width, height = tags[WIDTH], tags[HEIGHT]
                upright = tag not in range(2, 9)
                return Head((height, width), None if upright else tag)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, KeyError):
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
