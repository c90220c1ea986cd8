"""The block of external attention by kernels in Triton, for CUDA GPUs.

``inference.py`` holds the kernels, ``launch.py`` launches them. triton is
imported there and nowhere else: torch for CPUs comes without.
"""
