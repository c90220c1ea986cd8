"""What commands share: arguments of a config, and how they end."""

import argparse
import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmea.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = [
    'DictAction',
    'add_changes',
    'add_model',
    'command',
    'hide_known_warnings',
    'load_config',
    'make_parser',
]


class DictAction(argparse.Action):
    """mmengine's action of the same name, imported when it is needed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from mmengine.config import DictAction as Action

        action = Action(self.option_strings, self.dest, nargs=self.nargs)
        try:
            action(parser, namespace, values, option_string)
        except Exception:  # every kind of text fails in its own way
            parser.error(
                f'{option_string} takes KEY=VALUE, such as a.b=3 or '
                f'"a.b=[1, 2]", got {" ".join(values)}'
            )


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Make a parser of the arguments that train and test have in common."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        'config',
        help='path of a config, or the name of one mmea ships, or '
        'mmseg:NAME, mmdet:NAME, mmpretrain:NAME',
    )
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints (default: work_dirs/CONFIG, '
        'with --demo work_dirs/CONFIG_demo, with --swap-attention '
        'mmea.X work_dirs/CONFIG_X)',
    )
    parser.add_argument(
        '--demo',
        action='store_true',
        help='use small scenes that mmea renders, a light backbone and a '
        'short schedule: configs/_base_/demo says what changes',
    )
    parser.add_argument(
        '--swap-attention',
        metavar='TYPE',
        help='replace non-local blocks and self-attention of the model by '
        'this layer, such as mmea.ExternalAttention2d; model.rules.0.target '
        'of --cfg-options sets its arguments',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override single settings, such as '
        'model.decode_head.attention.num_slots=32',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes (default: none, one process)',
    )
    parser.add_argument(
        '--verbose',
        action='store_true',
        help='show on the console all that goes into the log file',
    )
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='do not look at the data before the start (once they are '
        'found good, that is done quickly)',
    )
    # torch's older launcher passes it; torchrun sets the environment.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``config`` and ``checkpoint`` of a trained model."""
    parser.add_argument(
        'config',
        help='path of a config, the name of one mmea ships, or a published '
        'folder',
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path of a checkpoint (default: the best in the work dir, or '
        'the latest)',
    )


def add_changes(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add what changes a config as in train, for its other commands.

    Args:
        parser (ArgumentParser): Gets ``--swap-attention``, ``--cfg-options``.
        more (str): Of ``--work-dir`` and ``--demo``, those that it gets too.
    """
    if '--work-dir' in more:
        parser.add_argument('--work-dir', help='as in train')
    if '--demo' in more:
        parser.add_argument('--demo', action='store_true', help='as in train')
    parser.add_argument('--swap-attention', metavar='TYPE', help='as in train')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='as in train',
    )


def hide_known_warnings(verbose: bool = False) -> None:
    """Leave out what the stack says in vain, before it is imported."""
    if not verbose:
        from mmea.engine.noise import hide_noise

        hide_noise()


def left_out(broken: list[str], number: int) -> UserError:
    """Say which of the inputs could not be used; of several, a line each."""
    text = f'{len(broken)} of {number} files are left out'
    if not broken[1:]:
        return UserError(f'{text}: {broken[0]}')
    for line in broken:
        print(f'left out: {line}', file=sys.stderr)
    return UserError(f'{text}, see above')


def load_config(args: argparse.Namespace) -> 'Config':
    """Load the config that the arguments of :func:`make_parser` name."""
    from mmea.engine.config import load_config as load

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load(
        args.config,
        demo=args.demo,
        swap=args.swap_attention,
        options=args.cfg_options,
        work_dir=args.work_dir,
    )
    cfg.launcher = args.launcher
    return cfg


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Print a UserError as one line and exit with 1; with 130 after Ctrl-C.

    A signal that ends the process, SIGTERM or SIGHUP, ends it as Ctrl-C does:
    what is half written is removed.

    With ``MMEA_TRACEBACK=1`` in the environment its traceback is shown.
    """

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> None:
        # custom_imports of a config find the modules of the project that it
        # is launched from, also by tools/train.py.
        sys.path.insert(0, os.getcwd())
        try:
            with _unwound_by_signals():
                main(argv)
                _wait_for_all()
        except UserError as error:
            if os.environ.get('MMEA_TRACEBACK'):
                raise
            sys.exit(f'error: {error}')
        except KeyboardInterrupt:
            if os.environ.get('MMEA_TRACEBACK'):
                raise
            print('interrupted', file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            # Who read the output has gone; nothing can be told any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        finally:
            _leave_group()

    return wrapped


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, where they kill as yet."""
    # One of several processes may wait for the others in C, where no handler
    # is called; and a thread cannot set one.
    alone = 'RANK' not in os.environ
    if not alone or threading.current_thread() != threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one kills
        if os.getpid() == owner:
            sys.exit(128 + number)
        os.kill(os.getpid(), number)  # a fork owns none of the files

    signals = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in signals:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)


def _distributed() -> Any:
    """torch.distributed, if a process group was joined."""
    torch = sys.modules.get('torch')
    if torch and torch.distributed.is_initialized():
        return torch.distributed
    return None


def _wait_for_all() -> None:
    # No process leaves the group while another still writes.
    if group := _distributed():
        group.barrier()


def _leave_group() -> None:
    if group := _distributed():
        # A model in DDP holds the group; it must go first, or gloo may abort
        # the process while the interpreter ends.
        gc.collect()
        group.destroy_process_group()
