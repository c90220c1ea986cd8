"""``mmea convert SOURCE CHECKPOINT OUT``: a published checkpoint to ours."""

import argparse
from pathlib import Path

from mmea.cli.common import command
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    from mmea.convert import SOURCES, convert, list_sources, untouched
    from mmea.convert.rename import group

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
    parser.add_argument(
        '--prefix',
        default='',
        help='where in the file the source is, such as decode_head.nl_block. '
        "or, for many places, 'stages.*.1.self_attn.'; what is elsewhere is "
        'kept (default: the whole file)',
    )
    args = parser.parse_args(argv)

    import torch

    from mmea.engine.checkpoint import load_checkpoint
    from mmea.files import whole

    out = Path(args.out)
    if out.exists() and out.resolve() == Path(args.checkpoint).resolve():
        raise UserError(
            f'{out} is the published checkpoint itself; name another file'
        )
    old = load_checkpoint(args.checkpoint, 'cpu')
    try:
        state = convert(old, args.source, args.prefix)
        kept = untouched(old, args.source, args.prefix)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not state:
        raise UserError(f'{args.checkpoint} holds no weights')
    try:
        with whole(out) as part:
            torch.save(dict(state_dict=state, meta=old.get('meta', {})), part)
    except (OSError, RuntimeError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'cannot write {out}: {reason}') from error
    print(f'{len(state)} entries written to {out}')
    if kept:
        print(f'{len(kept)} of them kept as they are: {group(kept)}')
