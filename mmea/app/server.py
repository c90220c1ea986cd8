"""Where the page is served, and who may see it. Needs gradio to serve."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from mmea.errors import UserError, in_one_line

__all__ = ['check_port', 'launch', 'own_folder']

SESSIONS = 100  # whose photographs are kept, the latest


def check_port(host: str, port: int) -> None:
    """Raise a UserError if nothing can listen on a port.

    Args:
        host (str): Address of this machine.
        port (int): From 1 to 65535.
    """
    if not 0 < port < 65536:
        raise UserError(f'--port must be from 1 to 65535, got {port}')
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = str(error.strerror).partition(' (')[0]
        raise UserError(
            f'cannot listen on --host {host} --port {port}: {reason}; '
            'name another --port'
        ) from error


@contextmanager
def own_folder() -> Iterator[str]:
    """Keep photographs where no other user reads them, and not for long.

    Pages that are made inside put theirs there; it is removed at the end.

    Returns:
        Iterator[str]: The folder, below ``GRADIO_TEMP_DIR`` if that is set.
    """
    before = os.environ.get('GRADIO_TEMP_DIR')
    with TemporaryDirectory(prefix='mmea_app_', dir=before) as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder
        try:
            yield folder
        finally:
            del os.environ['GRADIO_TEMP_DIR']
            if before is not None:
                os.environ['GRADIO_TEMP_DIR'] = before


def launch(page: Any, host: str, port: int, *, share: bool = False) -> str:
    """Serve a page, from threads of their own; ``page.close()`` ends it.

    Args:
        page (Blocks): Of :func:`mmea.app.page.make_page`.
        host (str): Address of this machine.
        port (int): Its port.
        share (bool): Whether gradio's servers pass a public address on to it.
            Default: False.

    Returns:
        str: Where the page is.

    Raises:
        UserError: It cannot be served, or no public address is to be had.
    """
    from gradio.themes import Default

    with in_one_line('cannot serve the page'):
        _, address, public = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            inline=False,
            quiet=True,
            # Nothing but what mmea says, from nowhere but here.
            theme=Default(
                font=['system-ui', 'sans-serif'],
                font_mono=['ui-monospace', 'monospace'],
            ),
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            state_session_capacity=SESSIONS,
        )
    if share and not public:
        page.close()
        raise UserError(
            '--share: gradio made no public address; leave it out, or see '
            'that this machine reaches the internet'
        )
    return public or address
