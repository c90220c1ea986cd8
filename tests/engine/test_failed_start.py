import pytest

from mmea.engine.failed_start import clean_after_failed_start


def write(folder, name, text=''):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fail_after(folder, *files):
    with pytest.raises(KeyError), clean_after_failed_start(folder):
        for file in files:
            write(folder, *file)
        raise KeyError
    return (
        sorted(p.name for p in folder.glob('*')) if folder.exists() else None
    )


START = [('20260101_120000/x.log', 'text'), ('tiny.py',), ('.lock',)]


def test_nothing_is_left(tmp_path):
    assert fail_after(tmp_path / 'new' / 'work', *START) is None
    assert not (tmp_path / 'new').exists()


def test_what_was_there_stays(tmp_path):
    old = [('20250101_120000/x.log', 'old'), ('iter_2.pth', 'weights')]
    for file in old:
        write(tmp_path, *file)
    kept = fail_after(tmp_path, *START)
    assert kept == ['20250101_120000', 'iter_2.pth']


def test_what_nobody_knows_stays(tmp_path):
    assert fail_after(tmp_path / 'w', ('notes.txt',)) == ['notes.txt']


@pytest.mark.parametrize(
    'file',
    [('20260101_120000/vis_data/scalars.json', '{}'), ('iter_2.pth', 'x')],
)
def test_a_training_that_has_begun_is_kept(tmp_path, file):
    kept = fail_after(tmp_path, *START, file)
    assert {'20260101_120000', 'tiny.py', '.lock'} <= set(kept)


def test_a_good_start_is_kept(tmp_path):
    with clean_after_failed_start(tmp_path / 'w'):
        write(tmp_path / 'w', *START[0])
    assert (tmp_path / 'w' / START[0][0]).exists()


def test_a_config_that_cannot_be_built(fails, project):
    fails('--cfg-options', 'model.decode_head.type=None')
    assert not (project / 'work').exists()
