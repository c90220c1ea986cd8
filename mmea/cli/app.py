"""``mmea app CONFIG [CHECKPOINT]``: a web page to try a model on."""

import argparse
import signal
from importlib.util import find_spec

from mmea.cli.common import add_model, command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea app',
        description='Serve a web page: drop a photograph, see what the model '
        'finds in it, and what its attention looks at.',
    )
    add_model(parser)
    parser.add_argument(
        '--port', type=int, default=7860, help='(default: %(default)s)'
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on, 0.0.0.0 for the whole network (default: '
        '%(default)s, this machine alone)',
    )
    parser.add_argument(
        '--share',
        action='store_true',
        help='let the whole internet in: gradio makes a public address, and '
        'passes all photographs through its servers',
    )
    parser.add_argument(
        '--layers', nargs='+', metavar='NAME', help='offer these alone'
    )
    parser.add_argument(
        '--device', help='such as cpu or cuda:1 (default: a GPU, if there is)'
    )
    args = parser.parse_args(argv)
    if find_spec('gradio') is None:
        raise UserError(
            'mmea app needs the package gradio: pip install "mmea[app]"'
        )

    hide_known_warnings()

    from mmea.app.server import check_port, launch, own_folder

    # Before the model: that takes its time.
    check_port(args.host, args.port)

    from mmea.engine.checkpoint import use_safe_loading
    from mmea.inference import load

    use_safe_loading()
    predictor = load(args.config, args.checkpoint, device=args.device)
    # As Ctrl-C does, so that no photograph is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with own_folder():
        # gradio reads where its folder is when it is imported.
        from mmea.app.page import make_page

        page = make_page(predictor, args.layers)
        address = launch(page, args.host, args.port, share=args.share)
        print(f'Page: {address} (Ctrl-C ends it)', flush=True)
        page.block_thread()
