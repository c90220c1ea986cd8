"""What a training has left, and the commands that use it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmea.engine.config import takes_images

__all__ = ['tell_next_step']


@master_only
def tell_next_step(runner: Runner) -> None:
    """Print the best checkpoint, or the latest, and what to do with it.

    Args:
        runner (Runner): One that has trained.
    """
    saved = list(_checkpoints(runner))
    for line in saved:
        print(line)
    # The Runner has written the config there, whole, with its work dir: what
    # it is given to takes the best checkpoint beside it.
    work_dir = _short(runner.work_dir)
    config = str(Path(work_dir, Path(runner.cfg.filename).name))
    steps = [shlex.join(['mmea', 'report', work_dir])]
    model = getattr(runner.model, 'module', runner.model)
    if saved and hasattr(model, 'generator'):
        generate = shlex.join(['mmea', 'generate', config])
        steps.insert(0, f'{generate} --out made')
    elif saved and takes_images(runner.cfg):
        predict = shlex.join(['mmea', 'predict', config])
        steps.insert(0, f'{predict} IMAGES --out found')
    elif saved and runner.cfg.get('test_dataloader'):
        steps.insert(0, shlex.join(['mmea', 'test', config]))
    print('Next: ' + '\n      '.join(steps))


def _checkpoints(runner: Runner) -> Iterator[str]:
    """Yield a line for each best checkpoint, or one for the latest."""
    info = runner.message_hub.runtime_info
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        keys = hook.key_indicators if hook.save_best else []
        lines = [
            f'Best checkpoint: {key} {info[f"best_score{end}"]:.4g}, '
            f'{_short(info[f"best_ckpt{end}"])}'
            for key in keys
            # mmengine names the only one without its key.
            for end in [f'_{key}' if keys[1:] else '']
            if f'best_ckpt{end}' in info
        ]
        if not lines and hook.last_ckpt:
            lines = [f'Latest checkpoint: {_short(hook.last_ckpt)}']
        yield from lines


def _short(path: str) -> str:
    """Write a path as from here, if it lies below."""
    here = Path.cwd()
    below = Path(path).is_relative_to(here)
    return str(Path(path).relative_to(here)) if below else path
