import os
import socket
from pathlib import Path

import pytest

from mmea.app import check_port, own_folder
from mmea.errors import UserError

from ..conftest import free_port


def test_port():
    check_port('127.0.0.1', int(free_port()))
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        words = f'--port {port}: Address already in use; name another'
        with pytest.raises(UserError, match=words):
            check_port('127.0.0.1', port)
    for port in (0, 65536):
        with pytest.raises(UserError, match=f'from 1 to 65535, got {port}'):
            check_port('127.0.0.1', port)
    with pytest.raises(UserError, match='cannot listen on --host no.such'):
        check_port('no.such', 7860)


@pytest.mark.parametrize('before', ['', 'set'])
def test_own_folder(tmp_path, monkeypatch, before):
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False)
    if before:
        monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    settings = dict(os.environ)
    with own_folder() as folder:
        assert os.environ['GRADIO_TEMP_DIR'] == folder
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert (Path(folder).parent == tmp_path) is bool(before)
    assert not Path(folder).exists()
    assert dict(os.environ) == settings
