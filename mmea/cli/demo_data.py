"""``mmea demo-data LAYOUT DIR``: write a demo data set."""

import argparse

from mmea.cli.common import command
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea demo-data',
        description='Write a small demo data set in a real layout.',
    )
    parser.add_argument(
        'layout',
        help='ade20k, cityscapes, coco, imagenet, modelnet, shapenetpart, '
        'sceneflow or voc',
    )
    parser.add_argument('out_dir', help='root folder of the data set')
    parser.add_argument('--num-train', type=int, default=240)
    parser.add_argument('--num-val', type=int, default=60)
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        metavar='N',
        help='height and width in pixels, or points of a cloud; default: '
        '128 128, cityscapes 128 256, sceneflow 96 160, clouds 256',
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)

    from mmea.demo import write_demo

    try:
        print(write_demo(**vars(args)))
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
