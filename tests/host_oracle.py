"""Numbers recorded from the networks that attention stands in."""

import os
from pathlib import Path

import pytest

#: The folder of the case files; every file of a known case is one test.
FOLDER = Path(
    os.environ.get(
        'MMEA_HOST_ORACLE_DIR', Path(__file__).parent / 'data' / 'oracle'
    )
)


def host_cases(*prefixes: str) -> list:
    """Paths of the cases whose names begin so, as parameters of a test."""
    return [
        pytest.param(path, id=path.stem)
        for path in sorted(FOLDER.glob('*.npz'))
        if path.stem.startswith(prefixes)
    ]
