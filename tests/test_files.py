import pytest

from mmea.files import cache_folder, whole, write_text


def test_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'new' / 'x.csv'
    with whole(path) as part:
        assert part.parent == path.parent and part.suffix == '.csv'
        part.write_text('1')
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), whole(path) as part:
        part.write_text('half')
        raise KeyboardInterrupt
    assert path.read_text() == '1'
    assert [p.name for p in path.parent.iterdir()] == ['x.csv']


def test_names_beside_it(tmp_path):
    """What somebody calls x.part.csv is not touched."""
    other = tmp_path / 'x.part.csv'
    other.write_text('own')
    with whole(tmp_path / 'x.csv') as part:
        part.write_text('1')
    assert other.read_text() == 'own'


def test_text_ends_with_its_last_line(tmp_path):
    write_text(tmp_path / 'x', 'ä\n\n\n')
    assert (tmp_path / 'x').read_bytes() == 'ä\n'.encode()


def test_cache_folder(monkeypatch):
    for home, want in {'/c': '/c/mmea', '': '/home/me/.cache/mmea'}.items():
        monkeypatch.setenv('XDG_CACHE_HOME', home)
        monkeypatch.setenv('HOME', '/home/me')
        assert str(cache_folder()) == want
