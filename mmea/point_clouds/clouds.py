"""Clouds in files: meshes and points, read and sampled."""

from pathlib import Path

import numpy as np

from mmea.errors import UserError

__all__ = ['SUFFIXES', 'read_cloud', 'read_h5', 'read_off', 'sample_mesh']

#: What :func:`read_cloud` reads.
SUFFIXES = ('.off', '.npy', '.txt', '.pts')


def read_cloud(
    path: Path, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Read the points of a file; of a mesh, ``number`` of its surface.

    Args:
        path (Path): A mesh (.off), or rows of numbers, coordinates first:
            .npy (N, C), or text (.txt, .pts) with commas or blanks between.
        number (int): Points of a mesh.
        rng (numpy.random.Generator): What points of a mesh are drawn by.

    Returns:
        numpy.ndarray: (N, C), float32.

    Raises:
        UserError: The file cannot be read, or is something else.
    """
    if path.suffix == '.off':
        return sample_mesh(*read_off(path), number, rng, path)
    try:
        if path.suffix == '.npy':
            rows = np.load(path, allow_pickle=False)
        else:
            with path.open(encoding='utf-8') as file:
                comma = ',' if ',' in file.readline() else None
            rows = np.loadtxt(path, delimiter=comma, ndmin=2)
        rows = rows.astype(np.float32)
    except Exception as error:  # numpy's are of many kinds
        why: object = error
        if path.suffix == '.npy':  # numpy's advice is to unpickle the file
            why = 'it is damaged, or holds no array of numbers; write it anew'
        raise UserError(f'cannot read the points of {path}: {why}') from None
    if rows.ndim != 2 or rows.shape[1] < 3 or not len(rows):
        raise UserError(
            f'{path} must hold rows of 3 numbers or more, (N, C), got '
            f'{rows.shape}'
        )
    return rows


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh in the Object File Format.

    Faces of more than three corners are cut into triangles; what stands
    behind the corners (colours) is left out.

    Args:
        path (Path): The file. Some of ModelNet's have the numbers of vertices
            and faces right behind the word OFF.

    Returns:
        tuple[numpy.ndarray, numpy.ndarray]: Vertices (V, 3), float64, and
        triangles (F, 3), indices of vertices.

    Raises:
        UserError: It is no such file, or a face names a vertex that it lacks.
    """
    try:
        text = path.read_text(encoding='utf-8', errors='replace')
        if not text.startswith('OFF'):
            raise ValueError('it does not begin with OFF')
        lines = [
            line.partition('#')[0].split() for line in text[3:].splitlines()
        ]
        lines = [line for line in lines if line]
        vertices, faces = int(lines[0][0]), int(lines[0][1])
        points = np.array(lines[1 : 1 + vertices], dtype=np.float64)
        if len(points) < vertices or len(lines) < 1 + vertices + faces:
            raise ValueError(f'it ends before {vertices=} and {faces=}')
        if points.ndim != 2 or points.shape[1] < 3:
            raise ValueError(f'vertices must be x y z, got {points.shape}')
        if not np.isfinite(points[:, :3]).all():
            raise ValueError('a vertex is not finite')
        corners = [
            (line[1], *line[i : i + 2])
            for line in lines[1 + vertices : 1 + vertices + faces]
            for i in range(2, int(line[0]))
        ]
        triangles = np.array(corners, dtype=np.int64).reshape(-1, 3)
        if len(triangles) and not (
            0 <= triangles.min() <= triangles.max() < vertices
        ):
            raise ValueError('a face has a vertex that is not there')
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f'{path} is no mesh in OFF: {error}') from None
    return points[:, :3], triangles


def sample_mesh(
    vertices: np.ndarray,
    triangles: np.ndarray,
    number: int,
    rng: np.random.Generator,
    path: Path,
) -> np.ndarray:
    """Draw points evenly from a surface, (number, 3), float32."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not 0 < area.sum() < np.inf:
        raise UserError(f'{path} has no surface to draw points from')
    of = rng.choice(len(area), number, p=area / area.sum())
    # Evenly in the parallelogram of two sides, its far half folded back.
    u, v = rng.random((2, number, 1))
    far = u + v > 1
    u, v = np.where(far, 1 - u, u), np.where(far, 1 - v, v)
    points = a[of] + u * (b - a)[of] + v * (c - a)[of]
    return points.astype(np.float32)


def read_h5(path: Path, *names: str) -> list[np.ndarray]:
    """Read arrays of an HDF5 file, by their names.

    Raises:
        UserError: h5py is missing, or the file or an array of it.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f'{path} needs h5py, which cannot be imported ({error}); pip '
            'install h5py, the extra "points" of mmea'
        ) from error
    try:
        with h5py.File(path) as file:
            return [np.asarray(file[name]) for name in names]
    except (OSError, KeyError) as error:
        raise UserError(f'cannot read {path}: {error}') from None
