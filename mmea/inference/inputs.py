"""From what a person names to the files that are meant."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmea.errors import UserError

__all__ = ['VIDEOS', 'Input', 'find_inputs']

IMAGES = frozenset(
    '.bmp .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp'.split()
)
VIDEOS = frozenset('.avi .m4v .mkv .mov .mp4 .webm'.split())


class Input(NamedTuple):
    """A photograph or a video.

    Attributes:
        path (Path): Where it is.
        name (Path): What it is called in the results: its path in the folder
            that was named, or the file's name.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS


def find_inputs(
    patterns: Iterable[str], leave_out: Path | None = None
) -> list[Input]:
    """List the files that paths, folders and globs name.

    Args:
        patterns (Iterable[str]): A folder stands for all photographs and
            videos in it, at any depth.
        leave_out (Path | None): That of the results, in which a folder of
            the patterns is not looked through. Default: None.

    Returns:
        list[Input]: In the order of the patterns, each sorted.

    Raises:
        UserError: A pattern names nothing or a result, or two files would be
            written to one name.
    """
    found: list[Input] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            files = [
                file
                for file in sorted(path.rglob('*'))
                if file.suffix.lower() in IMAGES | VIDEOS and file.is_file()
            ]
            own = [
                Input(file, file.relative_to(path))
                for file in files
                if not (leave_out and _is_in(file, leave_out))
            ]
            words = f'no photograph or video in the folder {pattern}'
            if files:
                words += f' but in that of the results, {leave_out}'
        elif path.is_file():
            own = [Input(path, Path(path.name))]
        else:
            names = sorted(glob.glob(str(path), recursive=True))
            files = [Path(name) for name in names if Path(name).is_file()]
            own = [Input(file, Path(file.name)) for file in files]
            words = f'no file {pattern}'
        if not own:
            raise UserError(
                f'{words}; name photographs ({" ".join(sorted(IMAGES))}), '
                f'videos ({" ".join(sorted(VIDEOS))}), folders or globs'
            )
        found += own
    taken: dict[Path, Path] = {}
    for path, name in found:
        if leave_out and any(
            _is_in(path, leave_out / kind) for kind in ('labels', 'overlays')
        ):
            raise UserError(
                f'{path} is among the results in {leave_out}, and might be '
                'written over; choose another folder for them'
            )
        other = taken.setdefault(name.with_suffix(''), path)
        if other != path:
            raise UserError(
                f'{other} and {path} would be written to one name; rename '
                'one, predict on them one by one, or, of two folders, name '
                'one that both are in'
            )
    return list(dict.fromkeys(found))


def _is_in(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())
