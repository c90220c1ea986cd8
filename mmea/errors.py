"""What the person at the command line can mend."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ['EXTRAS', 'UserError', 'in_one_line']

# The extras of mmea that bring a package along.
EXTRAS = dict(
    mmseg='"onedl" or "openmmlab-lite"',
    mmdet='"onedl-det" or "openmmlab-lite"',
    mmpretrain='"cls"',
    torch_fidelity='"fid"',
    rasterio='"tiles"',
)


class UserError(RuntimeError):
    """An error in the input, not in the program.

    Its message, one line, names the thing, the bad value and the way out.
    The commands print it without a traceback.
    """

    def __str__(self) -> str:
        text = super().__str__()
        # A DataLoader's worker hands its error over as a whole traceback,
        # which ends with the message.
        if text.startswith('Caught '):
            text = text.rpartition(f'{__name__}.{type(self).__name__}: ')[2]
        # That of a package may have several lines.
        return ' '.join(line.strip() for line in text.strip().splitlines())


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn whatever is raised inside into a UserError.

    For what reads and builds the user's input by the stack, which raises as
    it happens; not for the training itself.

    Args:
        what (str): Of what this is the error: 'cannot read the config x.py'.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        name, text = type(error).__name__, str(error)
        if isinstance(error, KeyError) and error.args:
            text = str(error.args[0])  # without quotes about it
        lines = [line.strip() for line in text.strip().splitlines() if line]
        # A worker's error comes as a traceback, whose end says what it was.
        text = lines[-1] if text.startswith('Caught ') else ' '.join(lines)
        raise UserError(
            f'{what}: {name}: {text[:1000]} (MMEA_TRACEBACK=1 shows where)'
        ) from error
