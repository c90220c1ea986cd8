"""What ``mmea compare`` does with its arguments."""

import copy
import os
import signal
import sys
from argparse import Namespace
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from rich.progress import Progress

from mmea.compare import report
from mmea.compare.accuracy import accuracy_tables, in_points, plot_accuracy
from mmea.compare.cost import measure_costs
from mmea.compare.members import (
    CONTROL,
    NONE,
    all_members,
    config_with,
    host_of,
    parse_members,
)
from mmea.compare.run_files import check_configs, find_results
from mmea.compare.runs import Run, train_runs
from mmea.engine.config import load_config
from mmea.engine.data_checks import fingerprint
from mmea.engine.lock import lock_folder
from mmea.engine.preflight import check_packages, prepare_data
from mmea.errors import UserError
from mmea.files import make_folder, write_text
from mmea.profiling import MODES, count_macs, count_parameters

__all__ = ['compare']

#: What the table of accuracies shows, of what an evaluation gives.
METRICS = ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP', 'accuracy/top1')
#: Runs of other versions of these are not mixed.
PACKAGES = (
    'mmea',
    'torch',
    'torchvision',
    'mmcv',
    'mmengine',
    'mmseg',
    'mmdet',
    'mmpretrain',
)
LOADERS = ('train_dataloader', 'val_dataloader')


def compare(args: Namespace) -> None:
    """Measure, train and write the report.

    Args:
        args (Namespace): Of :mod:`mmea.cli.compare`.

    Raises:
        UserError: A member or the config is wrong, or a run failed; the
            report then holds the others.
    """
    if args.no_cost and not args.config:
        raise UserError(
            '--no-cost without a config leaves nothing to compare: name a '
            'config to train, or leave --no-cost out'
        )
    if not args.members:
        args.members = ([NONE] if args.config else []) + all_members()
    members = parse_members(args.members)
    text = [report.TITLE, '']
    make_folder(args.out, '--out')
    report.check_free(args.out / 'README.md')
    with lock_folder(args.out, 'comparison'):
        # First, as it finds what is wrong with the config.
        runs = _make_runs(args, members) if args.config else []
        if not args.no_cost and any(members.values()):
            text += _compare_costs(args, members)
        failed = []
        if runs:
            failed = _train(args, runs)
            text += _compare_accuracy(args, runs)
    path = args.out / 'README.md'
    write_text(path, '\n'.join(text))
    print('\n'.join(text))
    print(f'Report: {path}')
    if failed:
        run = failed[0]
        raise UserError(
            f'{len(failed)} of {len(runs)} runs failed, the first with: '
            f'{run.error} ({run.log}); the report holds the others, and the '
            'same command tries again what is missing'
        )


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _device_name() -> str:
    return torch.cuda.get_device_name() if _device() == 'cuda' else 'cpu'


def _compare_costs(
    args: Namespace, members: dict[str, dict | None]
) -> list[str]:
    real = {label: member for label, member in members.items() if member}
    rows = []
    total = len(real) * len(set(args.sizes)) * len(MODES)
    with Progress() as progress:
        task = progress.add_task('cost', total=total)
        try:
            for row in measure_costs(
                real,
                args.channels,
                args.sizes,
                device=_device(),
                limit=args.limit,
            ):
                rows.append(row)
                progress.update(
                    task,
                    advance=1,
                    description=f'cost, {row["mode"]}, {row["size"]}',
                )
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f'cannot compare the costs: {error}') from error
    report.write_csv(rows, args.out / 'cost.csv')
    report.plot_costs(rows, args.out / 'cost.png')
    threads = torch.get_num_threads()
    return [
        '## Cost',
        '',
        f'One map of {args.channels} channels, float32, torch '
        f'{torch.__version__}, {_device()}, {threads} threads; times are '
        'medians of up to five turns in one process.',
        '',
        *report.cost_tables(rows),
        '![time and memory over tokens](cost.png)',
        '',
    ]


def _make_runs(args: Namespace, members: dict[str, dict | None]) -> list[Run]:
    cfg = load_config(args.config, demo=args.demo, options=args.cfg_options)
    if not cfg.get('val_dataloader'):
        raise UserError(
            f'{args.config} has no val_dataloader, so nothing to compare by'
        )
    check_packages(cfg)
    prepare_data(cfg, *LOADERS)
    facts = dict(
        versions=_versions(),
        data=fingerprint(cfg, *LOADERS),
        # Another rounding moves a run by as much as another seed does.
        device=_device_name(),
    )
    folder = args.out / 'runs'
    known = {row['member']: row for row in find_results(folder, facts)}
    for name in args.against or ():
        if name not in members and name not in known:
            raise UserError(
                f'--against {name}: no member of that name here; there are '
                f'{", ".join({**members, **known})}'
            )
    _make_comparable(cfg)
    host = host_of(cfg)
    runs = []
    for label, member in members.items():
        own = config_with(cfg, member)
        own.custom_hooks = [
            *(own.get('custom_hooks') or ()),
            dict(type='mmea.PairedRunHook', host=host),
        ]
        check_configs(folder, own)
        size = _measure(own, label)
        runs += [
            Run(label, seed, own, folder, facts, size) for seed in args.seeds
        ]
    # One seed of all first: what is broken off then still compares them.
    return sorted(runs, key=lambda run: args.seeds.index(run.seed))


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        if find_spec(name):
            versions[name] = str(import_module(name).__version__)
    return versions


def _make_comparable(cfg: Config) -> None:
    """Leave seed and folder to each run, and ask for results per class."""
    for key in ('work_dir', 'randomness'):
        cfg.pop(key, None)
    cfg.resume = False
    metrics: Any = cfg.get('val_evaluator')
    for metric in [metrics] if isinstance(metrics, dict) else metrics or ():
        kind = metric.get('type')
        if kind == 'IoUMetric':
            metric['type'] = 'mmea.ClassIoUMetric'
        elif kind == 'mmea.PresentClassIoUMetric':
            metric['per_class'] = True
        elif kind in ('CocoMetric', 'mmea.PresentClassCocoMetric'):
            metric['classwise'] = True


def _measure(cfg: Config, label: str) -> dict:
    """Count the parameters of a model and what an image takes."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    try:
        model = MODELS.build(cfg.model)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'cannot build the model of {cfg.filename} with the member '
            f'{label}: {error.args[0]}'
        ) from error
    loader = copy.deepcopy(cfg.val_dataloader)
    loader.update(batch_size=1, num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader)))
    model.eval()
    with torch.no_grad():
        macs = count_macs(lambda: model.test_step(batch))
    return dict(parameters=count_parameters(model), macs=macs)


def _train(args: Namespace, runs: list[Run]) -> list[Run]:
    """Train what is missing; the runs that failed."""
    # Or the runs would go on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    gpus = torch.cuda.device_count()
    # Of the cores that this process may use.
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    work = closing(train_runs(runs, args.jobs, gpus, threads))
    with Progress() as progress, work as turns:
        task = progress.add_task('training', total=len(runs))
        for active in turns:
            now = ', '.join(
                f'{run.label} seed {run.seed} iteration {run.step}'
                for run in active
            )
            done = sum(run.result is not None for run in runs)
            progress.update(task, completed=done, description=now)
    return [run for run in runs if run.result is None]


def _compare_accuracy(args: Namespace, runs: list[Run]) -> list[str]:
    rows = find_results(args.out / 'runs', runs[0].facts)
    if not rows:
        return []
    # As they are named, then those of earlier commands.
    labels = list(dict.fromkeys(run.label for run in runs))
    labels += [m for m in dict.fromkeys(r['member'] for r in rows)]
    order = list(dict.fromkeys(labels))
    rows.sort(key=lambda row: order.index(row['member']))
    flat = [
        {k: v for k, v in row.items() if k not in ('metrics', 'facts')}
        | row['metrics']
        for row in rows
    ]
    report.write_csv(flat, args.out / 'accuracy.csv')
    rows = in_points(rows)
    metrics = rows[0]['metrics']
    shown = [name for name in METRICS if name in metrics]
    shown = shown or list(metrics)[:1]
    members = list(dict.fromkeys(row['member'] for row in rows))
    against = args.against or [m for m in (NONE, CONTROL) if m in members]
    options = ''.join(
        f', {k}={v}' for k, v in (args.cfg_options or {}).items()
    )
    device = rows[0]['facts'].get('device')
    where = f' ({device})' if device else ''
    name = shown[0]
    plot_accuracy(
        {
            m: [row['metrics'][name] for row in rows if row['member'] == m]
            for m in members
        },
        name,
        args.out / 'accuracy.png',
    )
    return [
        '## Accuracy',
        '',
        f'{Path(args.config).name}{" --demo" if args.demo else ""}{options}. '
        'Runs of '
        'one seed see the same images in the same order and start from the '
        'same weights, as far as they have them in common. '
        f'{args.jobs} at a time shared the machine{where}.',
        '',
        *accuracy_tables(rows, shown, against or members[:1]),
        '![accuracy of each run](accuracy.png)',
        '',
    ]
