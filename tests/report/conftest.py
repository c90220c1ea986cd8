import json
import shutil
from pathlib import Path

import pytest

from mmea.train import main as train

from ..conftest import call, write_project

#: A name that breaks a page that does not escape it.
NAME = '<b>"wall" & \'Mäuse\'</b>'


def write_log(work_dir: Path, start: str, rows: list, text: str = '') -> Path:
    """Write what mmengine leaves of one start; its JSON is returned."""
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    path = folder / f'{start}.json'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if text:
        (work_dir / start / f'{start}.log').write_text(text)
    return path


def loss(step: int, value: float, **more) -> dict:
    return dict(lr=0.1, loss=value, time=1.0, iter=step, step=step, **more)


@pytest.fixture(scope='package')
def trained(tmp_path_factory):
    """A folder with two trainings, ``work``, which was resumed, and ``two``.

    The log of ``two`` has IoU of a class whose name is :data:`NAME`.
    """
    root = tmp_path_factory.mktemp('report')
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        options = '--cfg-options', 'train_cfg.val_interval=2'
        start = 'tiny.py', '--work-dir', 'work'
        call(train, *start, *options, 'train_cfg.max_iters=2')
        # Its timestamp has no parts of seconds.
        (first,) = Path('work').glob('2*/')
        shutil.move(first, 'work/20200101_000000')
        (log,) = Path('work').glob('2*/*.log')
        log.rename(log.with_name('20200101_000000.log'))
        (log,) = Path('work').glob('2*/vis_data/2*.json')
        log.rename(log.with_name('20200101_000000.json'))
        call(train, *start, '--resume', *options)
        shutil.copytree('work', 'two')
        for log in Path('two').glob('2*/vis_data/2*.json'):
            text = log.read_text()
            named = json.dumps({f'IoU/{NAME}': 12.5})[1:-1]
            log.write_text(text.replace('{"aAcc"', f'{{{named}, "aAcc"'))
        yield root
