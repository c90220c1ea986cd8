"""Turn COCO annotations into label PNGs; ``--help`` tells how."""

from mmea.cli.coco_to_masks import main

main()
