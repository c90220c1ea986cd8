"""Compare attention layers; ``--help`` lists the options."""

from mmea.cli.compare import main

main()
