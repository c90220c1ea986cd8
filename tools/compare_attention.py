"""Compare attention layers; ``--help`` lists the options."""

from mmea.compare_attention import main

main()
