from pathlib import Path
from typing import Any

from mmea.layers._checks import check_choice
from mmea.registry import DATASETS

from .stereo_set import StereoSet

__all__ = ['SceneFlow']


@DATASETS.register_module()
class SceneFlow(StereoSet):
    """Scene Flow: FlyingThings3D, Monkaa and Driving.

    Found in ``data_root``, or in a folder of each of the three in it::

        frames_cleanpass/.../left/0006.png, .../right/0006.png
        disparity/.../left/0006.pfm

    A name in front of both, as in ``monkaa_frames_cleanpass`` and
    ``monkaa_disparity``, does no harm.

    Args:
        data_root (str): Folder of the data set.
        split (str): 'test' is what lies in a folder TEST, that of
            FlyingThings3D; 'train' all else.
        render (str): 'cleanpass' or 'finalpass', with blur and haze.
            Default: 'cleanpass'.
        kwargs: See :class:`StereoSet`.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        render: str = 'cleanpass',
        **kwargs: Any,
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        check_choice('render', render, ('cleanpass', 'finalpass'))
        self.frames = f'frames_{render}'
        super().__init__(data_root, split, **kwargs)

    def load_data_list(self) -> list[dict]:
        found = [
            dict(
                left=str(left),
                right=str(left.parents[1] / 'right' / left.name),
                disparity=str(
                    truths / left.relative_to(frames).with_suffix('.pfm')
                ),
            )
            for frames, truths in self._parts()
            for left in sorted(frames.glob('**/left/*'))
            if left.suffix in ('.png', '.webp')
            and ('TEST' in left.relative_to(frames).parts)
            == (self.split == 'test')
        ]
        return self.require(found, f'{self.frames}/**/left/*.png')

    def _parts(self) -> list[tuple[Path, Path]]:
        """Find the folders of images and those of their disparities."""
        folders = [
            *self.folder.glob(f'*{self.frames}'),
            *self.folder.glob(f'*/*{self.frames}'),
        ]
        return [
            (path, path.with_name(path.name.replace(self.frames, 'disparity')))
            for path in sorted(folders)
            if path.is_dir()
        ]
