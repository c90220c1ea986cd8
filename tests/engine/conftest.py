import pytest

from mmea import train


@pytest.fixture
def fails(project, run, capsys):
    """Train a config; the one line of its error."""

    def call(*args, config='tiny.py') -> str:
        with pytest.raises(SystemExit) as info:
            run(train.main, config, '--work-dir', 'work', *args)
        message = str(info.value.code)
        assert message.startswith('error: ') and '\n' not in message
        return message

    return call
