from pathlib import Path

import pytest

from mmea.errors import UserError
from mmea.inference.inputs import find_inputs


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('p/b.jpg', 'p/a.PNG', 'p/in/a.jpg', 'p/notes.txt', 'v.MP4'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*patterns):
    return [(str(i.path), str(i.name)) for i in find_inputs(patterns)]


def test_folders_globs_and_files(files):
    folder = [
        ('p/a.PNG', 'a.PNG'),
        ('p/b.jpg', 'b.jpg'),
        ('p/in/a.jpg', 'in/a.jpg'),
    ]
    assert names('p') == folder
    assert names('p/*.jpg', 'v.MP4') == [
        ('p/b.jpg', 'b.jpg'),
        ('v.MP4', 'v.MP4'),
    ]
    assert names('**/in/*') == [('p/in/a.jpg', 'a.jpg')]
    # One whose suffix says nothing is taken at its word; named twice, once.
    assert names('p/notes.txt', 'p/notes.txt') == [
        ('p/notes.txt', 'notes.txt')
    ]
    assert [i.is_video for i in find_inputs(['p/b.jpg', 'v.MP4'])] == [
        False,
        True,
    ]


def test_what_names_nothing(files):
    with pytest.raises(UserError, match=r'no file p/\*\.gif; name photogr'):
        find_inputs(['p', 'p/*.gif'])
    Path('empty').mkdir()
    with pytest.raises(UserError, match='no photograph or video in .* empty;'):
        find_inputs(['empty'])


def test_two_results_of_one_name(files):
    words = 'p/a.PNG and p/in/a.jpg would be written to one name; rename o'
    with pytest.raises(UserError, match=words):
        find_inputs(['p/a.PNG', 'p/in/a.jpg'])


def test_a_result_is_not_written_over(files):
    Path('out/labels').mkdir(parents=True)
    Path('out/labels/x.png').touch()
    for pattern in ('out/labels/x.png', 'out/l*/*.png'):
        with pytest.raises(UserError, match='x.png is among the results in o'):
            find_inputs([pattern], leave_out=Path('out'))
    with pytest.raises(UserError, match='folder p but in that of the results'):
        find_inputs(['p'], leave_out=Path('.'))
    # Beside the results it may lie.
    assert len(find_inputs(['p/b.jpg'], leave_out=Path('.'))) == 1


def test_the_results_are_no_inputs(files):
    """A second run into a folder of the photographs."""
    before = find_inputs(['p'], leave_out=Path('p/found'))
    Path('p/found/overlays').mkdir(parents=True)
    Path('p/found/overlays/x.jpg').touch()
    assert find_inputs(['p'], leave_out=Path('./p/found')) == before
    assert len(find_inputs(['p'])) == len(before) + 1
    assert len(find_inputs(['p/found'])) == 1
