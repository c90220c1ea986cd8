"""What a comparison keeps of its runs: read, and found to fit or not."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load

from mmea.errors import UserError, in_one_line

__all__ = [
    'as_written',
    'check_config',
    'check_configs',
    'check_facts',
    'damaged',
    'find_results',
    'read',
    'read_result',
    'slug',
]


def find_results(folder: Path, facts: dict) -> list[dict]:
    """Read the results of all runs of a folder, by member and seed.

    Args:
        folder (Path): Of all runs.
        facts (dict): What they have to have in common.

    Raises:
        UserError: A result is damaged, or of other facts.
    """
    results = []
    for path in sorted(folder.glob('*/seed-*/result.json')):
        result = read_result(path)
        check_facts(path, result['facts'], facts)
        results.append(result)
    return sorted(results, key=lambda row: (row['member'], row['seed']))


def read_result(path: Path) -> dict:
    """Read the result of a run.

    Args:
        path (Path): ``MEMBER/seed-N/result.json``.

    Raises:
        UserError: It is damaged, or of another member or seed than its folder.
    """
    result = read(path)
    try:
        _check_result(path, result)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error
    return result


def check_configs(folder: Path, cfg: Config) -> None:
    """Raise unless all members of a folder are trained as a config is.

    Args:
        folder (Path): Of all runs.
        cfg (Config): Of one member.

    Raises:
        UserError: Another member's differs from it in more than the model.
    """
    now = as_written(cfg)
    for path in sorted(folder.glob('*/config.py')):
        check_config(path, now, but='model')


def check_facts(path: Path, there: dict, facts: dict) -> None:
    """Raise unless a run and this comparison have the same facts."""
    if not isinstance(there, dict):
        raise damaged(path)
    if 'device' in facts:  # which older runs do not tell
        there = dict(device=facts['device']) | there
    if there != facts:
        raise UserError(
            f'{path.parent} is a run with other versions, data or device '
            f'({_first_difference(there, facts)}); choose another --out, or '
            'remove that folder'
        )


def as_written(cfg: Config) -> dict:
    """Return a config as it comes back from a file."""
    return Config.fromstring(cfg.pretty_text, '.py')._cfg_dict.to_dict()


def check_config(path: Path, now: dict, but: str | None = None) -> None:
    with in_one_line(f'cannot read {path}, remove {path.parent}'):
        there = Config.fromfile(path)._cfg_dict.to_dict()
    now = {k: v for k, v in now.items() if k != but}
    there = {k: v for k, v in there.items() if k != but}
    if there != now:
        raise UserError(
            f'{path.parent} holds runs of another config '
            f'({_first_difference(there, now)}); choose another --out, or '
            'remove that folder'
        )


def _check_result(path: Path, result: dict) -> None:
    """Raise unless a result has what a report needs, and is of its folder."""
    own = slug(result['member']), f'seed-{result["seed"]}'
    if not isinstance(result['seed'], int):
        raise TypeError
    if own != path.parts[-3:-1]:
        raise UserError(
            f'{path} is of {result["member"]}, seed {result["seed"]}: name '
            f'its folder {"/".join(own)}'
        )
    metrics = list(result['metrics'].values())
    if not metrics or not isinstance(result['facts'], dict):
        raise ValueError
    numbers = [result[k] for k in ('parameters', 'macs', 'peak_memory')]
    # None is what a run did not log.
    numbers.append(result['seconds_per_iteration'] or 0)
    if not all(isinstance(v, (int, float)) for v in numbers + metrics):
        raise TypeError
    if not isinstance(result.get('length', ''), str):
        raise TypeError


def read(path: Path) -> Any:
    try:
        return load(path)
    except (OSError, ValueError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> UserError:
    return UserError(
        f'{path} is damaged; remove it, and the run is read or trained again'
    )


def slug(label: str) -> str:
    return ''.join(c if c.isalnum() or c in '.=-_' else '_' for c in label)


def _first_difference(old: Any, new: Any, key: str = '') -> str:
    """Say where two configs first differ: 'train_cfg.max_iters: 3, now 4'."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            if old.get(name) != new.get(name):
                path = f'{key}.{name}' if key else name
                return _first_difference(old.get(name), new.get(name), path)
    lists = isinstance(old, (list, tuple)) and isinstance(new, (list, tuple))
    if lists and len(old) == len(new):
        for i, (ours, theirs) in enumerate(zip(old, new)):
            if ours != theirs:
                return _first_difference(ours, theirs, f'{key}.{i}')
    return f'{key}: {old}, now {new}'
