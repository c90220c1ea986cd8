"""Turn a published checkpoint into one of mmea; ``--help`` tells how."""

from mmea.cli.convert import main

main()
