"""Train a model; ``--help`` lists the options."""

from mmea.train import main

main()
