"""The block of external attention by kernels in Triton, for CUDA GPUs.

``inference.py`` and ``training.py`` hold the kernels, ``launch.py`` and
``launch_training.py`` launch them, ``operators.py`` registers that with torch,
and ``block.py`` knows where it cannot be taken.
"""

from .block import CONFIRMED, find_kernel_obstacle, kernel_block

__all__ = ['CONFIRMED', 'find_kernel_obstacle', 'kernel_block']
