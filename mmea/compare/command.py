"""What ``mmea compare`` does with its arguments."""

import os
import signal
import sys
from argparse import Namespace
from contextlib import closing
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from rich.progress import Progress

from mmea.compare import report
from mmea.compare.cost import measure_costs
from mmea.compare.members import (
    NONE,
    all_members,
    config_with,
    parse_member,
)
from mmea.compare.runs import Run, train_runs
from mmea.engine.config import load_config
from mmea.engine.preflight import check_packages, prepare_data
from mmea.errors import UserError
from mmea.profiling import MODES, count_parameters

__all__ = ['compare']

#: What the table of accuracies shows, of what an evaluation gives.
METRICS = ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP', 'accuracy/top1')


def compare(args: Namespace) -> None:
    """Measure, train and write the report.

    Args:
        args (Namespace): Of :mod:`mmea.cli.compare`.

    Raises:
        UserError: A member or the config is wrong, or a run failed; the
            report then holds the others.
    """
    if not args.members:
        args.members = ([NONE] if args.config else []) + all_members()
    members = {text: parse_member(text) for text in args.members}
    text = ['# Comparison of attention layers', '']
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'cannot make the folder --out {args.out}: {error.strerror}'
        ) from error
    # First, as it finds what is wrong with the config.
    runs = _make_runs(args, members) if args.config else []
    if not args.no_cost:
        text += _compare_costs(args, members)
    failed = []
    if runs:
        failed = _train(args, runs)
        text += _compare_accuracy(args, runs)
    path = args.out / 'README.md'
    path.write_text('\n'.join(text).rstrip() + '\n', encoding='utf-8')
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
        except (TypeError, ValueError) as error:
            raise UserError(f'cannot build a member: {error}') from error
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
    prepare_data(cfg, 'train_dataloader', 'val_dataloader')
    runs = []
    for label, member in members.items():
        own = config_with(cfg, member)
        parameters = _count_parameters(own)
        for seed in args.seeds:
            folder = args.out / 'runs' / _slug(label) / f'seed-{seed}'
            runs.append(Run(label, seed, own, folder, parameters))
    # One seed of all first: what is broken off then still compares them.
    return sorted(runs, key=lambda run: args.seeds.index(run.seed))


def _slug(label: str) -> str:
    return ''.join(c if c.isalnum() or c in '.=-_' else '_' for c in label)


def _count_parameters(cfg: Config) -> int:
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    try:
        return count_parameters(MODELS.build(cfg.model))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'cannot build the model of {cfg.filename} with '
            f'that member: {error.args[0]}'
        ) from error


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
    rows: list[dict] = [
        dict(
            member=run.label,
            seed=run.seed,
            parameters=run.parameters,
            **result,
        )
        for run in runs
        if (result := run.result) is not None
    ]
    if not rows:
        return []
    report.write_csv(rows, args.out / 'accuracy.csv')
    shown = [name for name in METRICS if name in rows[0]]
    if not shown:
        shown = [k for k in rows[0] if k not in ('member', 'seed')][:1]
    by_member: dict[str, list[dict]] = {}
    for row in rows:
        by_member.setdefault(row['member'], []).append(row)
    lines = [
        [
            member,
            f'{own[0]["parameters"] / 1e6:.3f}',
            *(report.summarise([row[name] for row in own]) for name in shown),
            ', '.join(f'{row[shown[0]]:.2f}' for row in own),
            report.summarise([row['seconds_per_iteration'] for row in own]),
        ]
        for member, own in by_member.items()
    ]
    header = [
        'attention',
        'M params',
        *shown,
        f'{shown[0]} of each seed',
        's/iteration',
    ]
    name = shown[0]
    report.plot_accuracy(
        {m: [row[name] for row in own] for m, own in by_member.items()},
        name,
        args.out / 'accuracy.png',
    )
    return [
        '## Accuracy',
        '',
        f'{Path(args.config).name}{" --demo" if args.demo else ""}, seeds '
        f'{", ".join(map(str, args.seeds))}; mean ± sample standard '
        'deviation. M params are those of the whole model. '
        f'{args.jobs} runs at a time shared the machine.',
        '',
        *report.markdown(header, lines),
        '![accuracy of each run](accuracy.png)',
        '',
    ]
