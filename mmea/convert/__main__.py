"""``python -m mmea.convert``, the same as ``mmea convert``."""

from mmea.cli.convert import main

main()
