"""``mmea check-data CONFIG``: what is in the data of a config."""

from pathlib import Path

from mmea.cli.common import (
    command,
    hide_known_warnings,
    load_config,
    make_parser,
)
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = make_parser(
        'mmea check-data',
        'Check the data of a config, print what is in them, and draw images '
        'with their labels',
    )
    parser.add_argument(
        '--out', type=Path, help='the picture (default: WORK_DIR/data.png)'
    )
    parser.add_argument(
        '--num',
        type=int,
        default=12,
        help='images of each data set in the picture (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.num < 1:
        raise UserError(f'--num must be positive, got {args.num}')

    from rich.console import Console

    hide_known_warnings()

    from mmea.engine.preflight import check_packages, prepare_data
    from mmea.new import draw_sheet, look_at, show

    cfg = load_config(args)
    check_packages(cfg)
    loaders = 'train_dataloader', 'val_dataloader', 'test_dataloader'
    prepare_data(cfg, *loaders, check=not args.no_check)
    console = Console(highlight=False)
    datasets = []
    for dataset, summary in look_at(cfg):
        show(summary, console)
        datasets.append((summary.name, dataset))
    if not datasets:
        raise UserError(
            f'{args.config} has no data: it lacks {", ".join(loaders)}'
        )
    out = args.out or Path(cfg.work_dir, 'data.png')
    draw_sheet(datasets, out, args.num)
    console.print(
        f'Images and their labels: {out}', markup=False, soft_wrap=True
    )
