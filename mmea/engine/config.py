"""From the name of a config and the options of a command to a Config."""

import inspect
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

import mmea
from mmea.engine.data_checks.files import data_parts
from mmea.engine.preflight import check_packages
from mmea.engine.stock_configs import bases_by_module, is_stock, stock_config
from mmea.errors import UserError, in_one_line

__all__ = ['load_config', 'takes_images']

#: Keys that mmea and mmengine read of a config, beside the Runner's arguments.
READ_LATER = (
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'demo_data',
    'demo_model',
    'demo_scenes',
    'efficient_conv_bn_eval',
    'env_cfg',
    'find_unused_parameters',
    'init_weights_for_test_or_val',
    'model_wrapper_cfg',
    'resume',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)


def load_config(
    name: str,
    *,
    demo: bool = False,
    swap: str | None = None,
    options: dict | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config as the commands train and test it.

    Args:
        name (str): Path of a config file, the name of one mmea ships, or
            ``mmseg:NAME`` of one that mmseg ships, so too ``mmdet:NAME`` and
            ``mmpretrain:NAME``.
        demo (bool): Apply what ``--demo`` changes. Default: False.
        swap (str | None): Attention that replaces the model's, as
            ``--swap-attention`` names it.
        options (dict | None): Dotted keys and values to override.
        work_dir (str | None): Default: ``work_dirs/NAME``, with the
            endings ``_demo`` and the layer of ``swap``.

    Returns:
        Config: The file, then demo, swap, options and work_dir applied in
        this order.

    Raises:
        UserError: No such config, one without a demo, one to swap whose
            attention is swapped already or whose package is not there, or an
            option that nothing would read.
    """
    path = _find(name)
    with in_one_line(f'cannot read the config {path}'), bases_by_module():
        cfg = Config.fromfile(path)
    if demo:
        _apply_demo(cfg)
    if swap:
        check_packages(cfg)  # or the import may end in a traceback
        from mmea.swap import wrap_in_swap

        wrap_in_swap(cfg, dict(type=swap))
    if options:
        _check_keys(cfg, options)
        with in_one_line(f'cannot set {", ".join(options)} in {path}'):
            cfg.merge_from_dict(options)
    if work_dir:
        cfg.work_dir = work_dir
    elif demo or swap or not cfg.get('work_dir'):
        stem = Path(path).stem + ('_demo' if demo else '')
        if swap:
            # Its checkpoints are of another architecture.
            stem += '_' + swap.rpartition('.')[2]
        cfg.work_dir = os.path.join('work_dirs', stem)
    return cfg


def takes_images(cfg: Config) -> bool:
    """Tell whether a config says how images are prepared for its model.

    Those of point clouds do not, nor those without a test.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    return any('pipeline' in part for _, part in data_parts(dataset, ''))


def _find(name: str) -> str:
    if Path(name).is_file():
        return name
    if is_stock(name):
        return stock_config(name)
    try:
        return mmea.config(name)
    except ValueError as error:
        raise UserError(f'no config file {name}, and {error}') from None


def _check_keys(cfg: Config, options: dict) -> None:
    """Raise for an option whose first word nothing would read."""
    known = set(READ_LATER)
    for runner in (Runner, FlexibleRunner):
        known |= inspect.signature(runner).parameters.keys()
    for option in options:
        key = option.partition('.')[0]
        if key in known:
            continue
        if key not in cfg:
            close = get_close_matches(key, known, 1)
            raise UserError(
                f'--cfg-options {option}: {cfg.filename} has no key {key!r}'
                + (f', did you mean {close[0]!r}?' if close else '')
            )
        # A variable: only the file itself reads it.
        read = {name: part for name, part in cfg.items() if name in known}
        places = sorted(_places(read, cfg[key], ''), key=len)
        text = ', '.join(places[:4]) + (', ...' if places[4:] else '')
        raise UserError(
            f'--cfg-options {option}: what {cfg.filename} computes from {key} '
            'is computed before options are set; change it in the file'
            + (f', or set {text}, where its value stands' if places else '')
        )


def _places(part: Any, value: Any, key: str) -> Iterator[str]:
    """Yield the dotted keys under which a value stands."""
    if type(part) is type(value) and part == value:
        yield key
    elif isinstance(part, (dict, list, tuple)):
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for name, inner in items:
            yield from _places(inner, value, f'{key}.{name}'.lstrip('.'))


def _apply_demo(cfg: Config) -> None:
    """Merge the demo files that the config's bases name."""
    names = [cfg.get('demo_data'), cfg.get('demo_model')]
    if None in names:
        raise UserError(
            f'{cfg.filename} has no demo: it lacks the keys demo_data and '
            'demo_model; inherit from a config of mmea that has them, such '
            'as ea_fpn_ade20k.py, or train without --demo'
        )
    for name in names:
        demo = Config.fromfile(mmea.config(name))
        cfg.merge_from_dict(demo.to_dict(), allow_list_keys=False)
