import pytest

from mmea import train
from mmea.engine.lock import lock_folder
from mmea.errors import UserError


def test_a_folder_is_held_as_long_as_its_process_lives(tmp_path, hold):
    other = hold(tmp_path)
    with pytest.raises(UserError, match=f'another training.*{tmp_path}'):
        lock_folder(tmp_path, 'training')
    other.kill()  # it has no time to clean up
    other.wait()
    lock_folder(tmp_path, 'training').close()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match='cannot write to .*gone: No such'):
        lock_folder(tmp_path / 'gone', 'training')


def test_a_second_training_in_one_folder(project, run, hold):
    (project / 'work').mkdir()
    hold('work')
    with pytest.raises(SystemExit, match='another training works in work'):
        run(train.main, 'tiny.py', '--work-dir', 'work')
    assert not list((project / 'work').glob('*.pth'))
