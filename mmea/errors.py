"""What the person at the command line can mend."""

__all__ = ['EXTRAS', 'UserError']

# The extras of mmea that bring a package along.
EXTRAS = dict(
    mmseg='"onedl" or "openmmlab-lite"',
    mmdet='"onedl-det" or "openmmlab-lite"',
    mmpretrain='"cls"',
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
