import functools
import http.server
import threading

import pytest

from mmea.engine.zoo import explain_zoo, find_model
from mmea.errors import UserError


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    folder = tmp_path / 'models/net-1.5_x'
    folder.mkdir(parents=True)
    (folder / 'net-1.5_x.safetensors').write_bytes(b'weights')
    (folder / 'config.py').write_text('a = 1\n')
    monkeypatch.setenv('MMEA_ZOO', str(tmp_path / 'models'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'models'


def test_a_folder(zoo, monkeypatch):
    assert find_model('net-1.5_x') == zoo / 'net-1.5_x'
    assert explain_zoo() == 'the zoo has net-1.5_x'
    for name in ('other', '..', '../models', 'net-1.5_x.py', 'a/b'):
        assert find_model(name) is None
    # The name of a config stays that of the config.
    (zoo / 'net-1.5_x').rename(zoo / 'ea_fpn_ade20k')
    (zoo / 'ea_fpn_ade20k/ea_fpn_ade20k.safetensors').touch()
    assert find_model('ea_fpn_ade20k') is None
    monkeypatch.setenv('MMEA_ZOO', str(zoo / 'empty'))
    assert find_model('net-1.5_x') is None
    assert explain_zoo().startswith(f'there is no zoo in {zoo / "empty"}: ')


@pytest.fixture
def address(zoo, monkeypatch):
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=zoo
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(
            'MMEA_ZOO', f'http://127.0.0.1:{server.server_port}/'
        )
        yield server
        server.shutdown()


def test_an_address(zoo, address, tmp_path):
    folder = find_model('net-1.5_x')
    assert folder == tmp_path / 'cache/mmea/zoo/net-1.5_x'
    assert (folder / 'net-1.5_x.safetensors').read_bytes() == b'weights'
    assert (folder / 'config.py').read_text() == 'a = 1\n'
    assert find_model('other') is None
    assert 'has no such model' in explain_zoo()
    address.shutdown()
    address.server_close()
    assert find_model('net-1.5_x') == folder  # from the cache
    with pytest.raises(
        UserError, match='cannot fetch .*another.*; see MMEA_ZOO'
    ):
        find_model('another')


def test_load_says_where_to_look(zoo):
    pytest.importorskip('mmseg')
    from mmea.inference import load

    with pytest.raises(UserError, match='ships no config .*zoo has net-1.5_x'):
        load('net-2')
