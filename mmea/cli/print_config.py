"""``mmea print-config CONFIG``: the whole config, as train runs it."""

import argparse

from mmea.cli.common import add_changes, command, hide_known_warnings
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea print-config',
        description='Print the whole config as mmea train runs it, without '
        'bases: Python that reads back as the same.',
    )
    parser.add_argument('config', help='as in train')
    parser.add_argument(
        '--out', metavar='FILE', help='write it to this .py file instead'
    )
    parser.add_argument(
        '--diff',
        nargs='?',
        const='',
        metavar='OTHER',
        help='print what is different from another config, or, without one, '
        'what options and mmea change in the file of CONFIG',
    )
    add_changes(parser, '--work-dir', '--demo')
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith('.py'):
        raise UserError(f'--out {args.out} must be a .py file')
    hide_known_warnings()

    from mmengine.config import Config

    from mmea.engine.config import load_config
    from mmea.engine.config_text import config_diff, config_text
    from mmea.engine.runner import as_trained
    from mmea.engine.stock_configs import bases_by_module
    from mmea.files import write_text

    cfg = load_config(
        args.config,
        demo=args.demo,
        swap=args.swap_attention,
        options=args.cfg_options,
        work_dir=args.work_dir,
    )
    as_trained(cfg)
    if args.diff is None:
        text = config_text(cfg)
    else:
        if args.diff:
            other = load_config(args.diff)
            as_trained(other)
        else:
            with bases_by_module():
                other = Config.fromfile(cfg.filename)
        text = config_diff(other, cfg)
    if args.out:
        write_text(args.out, text)
    else:
        print(text, end='')
