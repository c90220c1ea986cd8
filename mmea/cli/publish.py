"""``mmea publish CONFIG [CHECKPOINT] --out DIR``: hand a model on."""

import argparse
from pathlib import Path

from mmea.cli.common import add_changes, command, hide_known_warnings

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea publish',
        description='Write weights, config and card of a trained model to a '
        'folder.',
    )
    parser.add_argument('config', help='as in train')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path of a checkpoint (default: the best in the work dir, or '
        'the latest)',
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to'
    )
    parser.add_argument(
        '--name',
        help='of the model and its files (default: that of the config, with '
        'the layer of --swap-attention)',
    )
    parser.add_argument(
        '--half', action='store_true', help='write the weights as float16'
    )
    parser.add_argument(
        '--license',
        metavar='ID',
        help='of the model, such as apache-2.0, for its card',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='write into a folder that is not empty, over what was published '
        'there under the same name',
    )
    parser.add_argument(
        '--upload',
        metavar='USER/REPO',
        help='upload the folder to the Hugging Face Hub, as whoever is '
        'logged in there',
    )
    add_changes(parser, '--work-dir', '--demo')
    args = parser.parse_args(argv)

    hide_known_warnings()

    from mmea.engine.checkpoint import pick_weights, use_safe_loading
    from mmea.engine.config import load_config
    from mmea.publish import Hub, publish

    use_safe_loading()
    hub = Hub(args.upload) if args.upload else None
    cfg = load_config(
        args.config,
        demo=args.demo,
        swap=args.swap_attention,
        options=args.cfg_options,
    )
    name = args.name or Path(cfg.filename).stem
    if not args.name and (args.demo or args.swap_attention):
        name = Path(cfg.work_dir).name  # the default one has it all
    if args.work_dir:
        cfg.work_dir = args.work_dir
    files = publish(
        cfg,
        args.checkpoint or pick_weights(cfg),
        args.out,
        name=name,
        half=args.half,
        license=args.license,
        force=args.force,
    )
    print(f'Written to {args.out}: {", ".join(file.name for file in files)}')
    if hub:
        hub.upload(files, name)
        print(f'Uploaded to https://huggingface.co/{hub.repo}')
