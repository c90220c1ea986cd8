"""The notebooks run from their first cell to the last."""

from pathlib import Path

import pytest

NOTEBOOKS = sorted(
    (Path(__file__).resolve().parents[1] / 'docs/notebooks').glob('*.ipynb')
)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_is_kept_without_outputs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip('nbformat')
    nbclient = pytest.importorskip('nbclient')
    if path.stem != '1_layer':
        pytest.importorskip('mmseg.models')
    monkeypatch.setenv('MPLBACKEND', 'agg')
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert code and not any(cell.outputs for cell in code)
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        resources=dict(metadata=dict(path=str(tmp_path))),
    ).execute()
    assert any(cell.outputs for cell in code)
