"""``mmea export CONFIG [CHECKPOINT] --out FILE``: a model as a graph."""

import argparse

from mmea.cli.common import (
    DictAction,
    add_model,
    command,
    hide_known_warnings,
)

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea export',
        description='Write a trained model as a graph that runs without '
        'Python, checked against PyTorch.',
    )
    add_model(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.onnx, or .pt2 for a program of torch.export',
    )
    parser.add_argument(
        '--fixed-size',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='a graph for images of this size only (default: any)',
    )
    parser.add_argument(
        '--dtype',
        choices=['uint8', 'float32'],
        default='uint8',
        help='of the images, whose values are 0 to 255 in both (default: '
        'uint8)',
    )
    parser.add_argument(
        '--opset',
        type=int,
        default=18,
        help='of ONNX (default: 18)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override single settings, such as model.test_cfg.mode=whole',
    )
    args = parser.parse_args(argv)

    import torch

    hide_known_warnings()

    from mmea.engine.config import load_config
    from mmea.export import export

    config = args.config
    if args.cfg_options:
        config = load_config(config, options=args.cfg_options)
    print(
        export(
            config,
            args.checkpoint,
            out=args.out,
            size=tuple(args.fixed_size) if args.fixed_size else None,
            opset=args.opset,
            dtype=getattr(torch, args.dtype),
        )
    )
