"""What :mod:`mmea.compare_attention` is made of."""
