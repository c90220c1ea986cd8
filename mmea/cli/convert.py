"""``mmea convert SOURCE CHECKPOINT OUT``: a published checkpoint to ours."""

import argparse
from pathlib import Path

from mmea.cli.common import command
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None):
    from mmea.convert import SOURCES, convert, list_sources

    parser = argparse.ArgumentParser(
        prog='mmea convert',
        description='Turn a published checkpoint into one of mmea.',
        epilog=list_sources(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'source', choices=SOURCES, metavar='source', help='one of those below'
    )
    parser.add_argument('checkpoint', help='the published file')
    parser.add_argument('out', help='where to write ours')
    args = parser.parse_args(argv)

    import torch

    from mmea.engine.checkpoint import load_checkpoint

    state = load_checkpoint(args.checkpoint, 'cpu')
    try:
        state = convert(state.get('state_dict', state), args.source)
    except ValueError as error:
        raise UserError(str(error)) from error
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state, meta={}), out)
    print(f'{len(state)} entries written to {out}')
