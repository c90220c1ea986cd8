"""Evaluate a model; ``--help`` lists the options."""

from mmea.test import main

main()
