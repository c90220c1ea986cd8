"""Recorded numbers of whole networks that attention goes into.

``MMEA_HOST_ORACLE_DIR`` names the folder of the case files (default: the copy
in tests/data); tests read them by ``tests.test_oracle.Case``.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get(
        'MMEA_HOST_ORACLE_DIR', Path(__file__).parent / 'data' / 'oracle'
    )
)


def host_cases(prefix: str) -> list:
    """Every case file whose name begins so, as a parameter of a test.

    One that says what is wrong stands for a folder without any.
    """
    found = [
        pytest.param(path, id=path.stem)
        for path in sorted(FOLDER.glob(f'{prefix}*.npz'))
    ]
    return found or [pytest.param(FOLDER / f'{prefix}.npz', id='none')]
