"""Turn COCO annotations into label PNGs for semantic segmentation."""

import argparse

from mmea.datasets.coco_masks import coco_to_masks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('ann_file', help='JSON file with COCO annotations')
    parser.add_argument('out_dir', help='folder for the PNGs')
    parser.add_argument(
        '--list', help='write the names of the images to this file too'
    )
    args = parser.parse_args()
    try:
        metainfo = coco_to_masks(
            args.ann_file, args.out_dir, list_file=args.list
        )
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    print(f'metainfo = {metainfo}')


if __name__ == '__main__':
    main()
