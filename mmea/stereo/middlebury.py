from typing import Any

from mmea.registry import DATASETS

from .stereo_set import StereoSet, first_file

__all__ = ['Middlebury']

TRUTHS = ('disp0.pfm', 'disp0GT.pfm', 'disp0.npz')


@DATASETS.register_module()
class Middlebury(StereoSet):
    """Middlebury's pairs, or others in folders like theirs.

    Found in ``data_root/split``::

        SCENE/im0.png, im1.png and disp0.pfm, disp0GT.pfm or disp0.npz
        NAME_left.png, NAME_right.png and NAME_disp.npz or NAME_disp.pfm

    A pair without disparity is read too, to be predicted.

    Args:
        data_root (str): Folder of the data set.
        split (str): A folder in it, such as 'trainingH'. Default: '', itself.
        kwargs: See :class:`StereoSet`.
    """

    def __init__(self, data_root: str, split: str = '', **kwargs: Any) -> None:
        super().__init__(data_root, split, **kwargs)

    def load_data_list(self) -> list[dict]:
        folder = self.folder / self.split
        found = [
            dict(
                left=str(left),
                right=str(left.with_name('im1.png')),
                disparity=first_file(left.parent, TRUTHS),
            )
            for left in sorted(folder.glob('*/im0.png'))
        ]
        for left in sorted(folder.glob('*_left.png')):
            stem = left.name.removesuffix('_left.png')
            truths = f'{stem}_disp.npz', f'{stem}_disp.pfm'
            found.append(
                dict(
                    left=str(left),
                    right=str(left.with_name(f'{stem}_right.png')),
                    disparity=first_file(folder, truths),
                )
            )
        return self.require(found, '*/im0.png and *_left.png')
