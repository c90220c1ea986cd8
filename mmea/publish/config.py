"""The config of a published model: what inference reads, and no paths."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mmea.engine.data_checks.files import data_parts
from mmea.errors import UserError

__all__ = ['plain_meta', 'published_config']

#: Keys of a config that are taken as they are.
KEPT = ('custom_imports', 'default_scope', 'tta_model')

#: Arguments of data sets that say where files are.
PLACES = re.compile('root|file|folder|dir|path|prefix|split|indices')

#: Arguments of transforms that say by what files are read.
STORAGE = ('backend_args', 'file_client_args')


def published_config(cfg: Config, meta: dict) -> Config:
    """Reduce the config of a training to what inference reads.

    Args:
        cfg (Config): As :func:`mmea.engine.config.load_config` gives it.
        meta (dict): Of :func:`plain_meta`.

    Returns:
        Config: Model, test pipeline, data set with its classes and the
        visualizer's type; without a base, places of files, and weights to
        start from.

    Raises:
        UserError: A path of this machine would be left.
    """
    old = cfg.to_dict()
    new = {key: old[key] for key in KEPT if key in old}
    new['model'] = _without_weights(old['model'])
    if old.get('data_preprocessor'):  # the Runner hands it to the model
        new['model'].setdefault('data_preprocessor', old['data_preprocessor'])
    _, test_set = next(data_parts(old['test_dataloader']['dataset'], ''))
    pipeline = _without_storage(test_set['pipeline'])
    new['test_pipeline'] = pipeline
    new['test_dataloader'] = dict(
        batch_size=1,
        dataset={
            **{k: v for k, v in test_set.items() if not PLACES.search(k)},
            'metainfo': meta,
            'pipeline': pipeline,
        },
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    for key in STORAGE:
        new['test_dataloader']['dataset'].pop(key, None)
    if 'tta_pipeline' in old:
        new['tta_pipeline'] = _without_storage(old['tta_pipeline'])
    if old.get('visualizer'):
        new['visualizer'] = dict(
            type=old['visualizer']['type'], name='visualizer'
        )
    for key, value in _paths(new, ''):
        raise UserError(
            f'{key}={value!r} is a path of this machine, which the published '
            'config would name; set it to another value by --cfg-options'
        )
    return Config(new)


def plain_meta(meta: dict) -> dict:
    """Copy classes, palette and their like in lists, tuples and numbers.

    Text is left out: mmengine takes that of a config for names of files.
    """
    return {k: _plain(v) for k, v in meta.items() if not isinstance(v, str)}


def _plain(value: Any) -> Any:
    if hasattr(value, 'tolist'):  # numpy's and torch's
        return value.tolist()
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):  # a colour is one, for the visualisers
        return tuple(map(_plain, value))
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return list(map(_plain, value))
    if isinstance(value, (str, int, float, type(None))):
        return value
    return str(value)


def _without_weights(value: Any) -> Any:
    """Copy a model's config without the weights that it starts from."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_weights, value))
    if not isinstance(value, dict):
        return value
    return {
        key: None if _starts_from(key, part) else _without_weights(part)
        for key, part in value.items()
    }


def _starts_from(key: str, value: Any) -> bool:
    if key == 'pretrained':
        return isinstance(value, str)
    parts = value if isinstance(value, (list, tuple)) else [value]
    return key == 'init_cfg' and any('checkpoint' in (p or ()) for p in parts)


def _without_storage(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_storage, value))
    if not isinstance(value, dict):
        return value
    return {
        key: _without_storage(part)
        for key, part in value.items()
        if key not in STORAGE
    }


def _paths(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the absolute paths in a config, with their dotted keys."""
    if isinstance(value, str):
        if os.path.isabs(os.path.expanduser(value)):
            yield key, value
        return
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _paths(part, f'{key}.{name}' if key else str(name))
