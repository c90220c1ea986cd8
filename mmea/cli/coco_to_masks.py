"""``mmea coco-to-masks ANN_FILE OUT_DIR``: COCO polygons to label images."""

import argparse

from mmea.cli.common import command
from mmea.errors import UserError

__all__ = ['main']


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='mmea coco-to-masks',
        description='Turn COCO annotations into label PNGs for semantic '
        'segmentation.',
    )
    parser.add_argument('ann_file', help='JSON file with COCO annotations')
    parser.add_argument('out_dir', help='folder for the PNGs')
    parser.add_argument(
        '--list', help='write the names of the images to this file too'
    )
    args = parser.parse_args(argv)

    from mmea.datasets.coco_masks import coco_to_masks

    try:
        metainfo = coco_to_masks(
            args.ann_file, args.out_dir, list_file=args.list
        )
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from error
    print(f'metainfo = {metainfo}')
