"""Scripts by which shells complete ``mmea``, made of the commands' parsers."""

from argparse import Action, ArgumentParser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from mmea.cli import COMMANDS
from mmea.errors import UserError

__all__ = ['SHELLS', 'completion', 'parser_of']

SHELLS = ('bash', 'zsh', 'fish', 'tcsh')

#: What ``metavar`` says of arguments that are no files. Those that have none
#: are, but for some.
NO_FILES = (
    'KEY=VALUE',
    'ID',
    'MEMBER',
    'N',
    'NAME',
    'TEXT',
    'TYPE',
    'USER/REPO',
)
NO_FILES_BY_NAME = ('classes', 'device', 'members', 'name', 'prefix')


class _Made(Exception):
    pass


def parser_of(main: Callable) -> ArgumentParser:
    """Return the parser of a command, which makes it first and then parses.

    Args:
        main (Callable): Of a module of ``mmea.cli``.
    """

    def stop(parser: ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        raise _Made(parser)

    with (
        patch.object(ArgumentParser, 'parse_args', stop),
        patch.object(ArgumentParser, 'parse_intermixed_args', stop),
    ):
        try:
            main([])
        except _Made as made:
            return made.args[0]
    raise AssertionError(f'{main.__module__} parses no arguments')


def completion(shell: str) -> str:
    """Write the script by which a shell completes ``mmea``.

    Args:
        shell (str): One of :data:`SHELLS`.

    Returns:
        str: To be run by the shell. It completes commands, their options,
        choices and files.

    Raises:
        UserError: The package shtab, which writes it, is not there.
    """
    try:
        import shtab
    except ImportError as error:
        raise UserError(
            'mmea completion needs the package shtab: pip install shtab'
        ) from error
    parser = ArgumentParser(prog='mmea')
    parser.add_argument('--version', action='version', version='')
    commands = parser.add_subparsers()
    for name, what in COMMANDS.items():
        module = import_module(f'mmea.cli.{name.replace("-", "_")}')
        own = parser_of(module.main)
        # shtab reads the subparsers off their action.
        commands.add_parser(name, help=what)
        commands.choices[name] = own
        for action in own._actions:
            if isinstance(action.choices, dict):  # for shtab, subcommands
                action.choices = list(action.choices)
            if _takes_files(action):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _takes_files(action: Action) -> bool:
    return (
        action.nargs != 0
        and not action.choices
        and action.type in (None, Path)
        and action.metavar not in NO_FILES
        and action.dest not in NO_FILES_BY_NAME
    )
