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
    # One half of a model is none, for both.
    (zoo / 'net-1.5_x').mkdir()
    (zoo / 'net-1.5_x/config.py').touch()
    (zoo / 'ea_fpn_ade20k/ea_fpn_ade20k.safetensors').unlink()
    assert find_model('net-1.5_x') is None
    assert explain_zoo().startswith('there is no zoo')
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
    assert folder.parents[1] == tmp_path / 'cache/mmea/zoo'
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


def test_two_addresses(zoo, address, monkeypatch):
    """A model of the same name is another one."""
    first = find_model('net-1.5_x')
    (zoo / 'net-1.5_x').rename(zoo / 'old')
    (zoo / 'v2').mkdir()
    (zoo / 'old').rename(zoo / 'v2/net-1.5_x')
    weights = 'net-1.5_x.safetensors'
    (zoo / 'v2/net-1.5_x' / weights).write_bytes(b'others')
    url = f'HTTP://127.0.0.1:{address.server_port}/v2'
    monkeypatch.setenv('MMEA_ZOO', url)
    assert (find_model('net-1.5_x') / weights).read_bytes() == b'others'
    assert (first / weights).read_bytes() == b'weights'


class Broken(http.server.BaseHTTPRequestHandler):
    answer = b''

    def do_GET(self):
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    'answer, message',
    [
        (b'HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf', '4 of 9 byt'),
        (b'HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n', 'web page'),
        (b'HTTP/1.0 403 Forbidden\r\n\r\n', '403'),
        (b'', 'closed connection'),
        (b'no protocol at all\r\n', 'no protocol'),
    ],
)
def test_what_is_no_model_is_not_kept(zoo, monkeypatch, answer, message):
    handler = type('Handler', (Broken,), dict(answer=answer))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        monkeypatch.setenv('MMEA_ZOO', url)
        for _ in range(2):
            with pytest.raises(UserError, match=f'cannot fetch .*{message}'):
                find_model('net-1.5_x')
        server.shutdown()


@pytest.mark.parametrize('url', ['http://[::1', 'http://a:b', 'http://a b'])
def test_an_address_that_is_none(zoo, monkeypatch, url):
    monkeypatch.setenv('MMEA_ZOO', url)
    with pytest.raises(UserError, match='cannot fetch .*; see MMEA_ZOO'):
        find_model('net-1.5_x')


def test_load_says_where_to_look(zoo):
    pytest.importorskip('mmseg')
    from mmea.inference import load

    with pytest.raises(UserError, match='ships no config .*zoo has net-1.5_x'):
        load('net-2')
