"""``python -m mmea.compare``, the same as ``mmea compare``."""

from mmea.cli.compare import main

main()
