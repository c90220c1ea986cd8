"""What ends before a page is served, in one line each."""

import socket

import pytest

from mmea.cli import app


def test_without_gradio(run, monkeypatch):
    monkeypatch.setattr(app, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match=r'gradio: pip install "mmea\[app\]"'):
        run(app.main, 'x.py')


def test_before_the_model(run, monkeypatch):
    monkeypatch.setattr(app, 'find_spec', lambda name: name)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        words = f'error: cannot listen on --host 127.0.0.1 --port {port}: '
        with pytest.raises(SystemExit, match=words):
            run(app.main, 'no_such.py', '--port', port)
