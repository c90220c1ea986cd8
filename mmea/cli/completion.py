"""``mmea completion SHELL``: what a shell runs to complete ``mmea``."""

import argparse

from mmea.cli.common import command

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    from mmea.completion import SHELLS, completion

    parser = argparse.ArgumentParser(
        prog='mmea completion',
        description='Print the script by which a shell completes commands, '
        'options, choices and files of mmea. For bash, into ~/.bashrc: '
        'source <(mmea completion bash)',
    )
    parser.add_argument('shell', choices=SHELLS)
    args = parser.parse_args(argv)
    print(completion(args.shell))
