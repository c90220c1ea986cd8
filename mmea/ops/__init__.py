"""Functions on tensors. torch only."""

import torch

if torch.__version__ < '2.6':
    # As after pip install --no-deps; later it would be some AttributeError.
    raise ImportError(
        f'mmea needs torch 2.6 or later, and this is {torch.__version__}; '
        'make a new environment (docs/install.md), nothing has to be compiled'
    )

from .dot_product_attention import dot_product_attention
from .double_norm import double_norm
from .external_attention import external_attention
from .external_attention_block import (
    BatchStats,
    external_attention_block,
    low_memory_block,
    low_rank_block,
)
from .external_attention_kernels import find_kernel_obstacle, kernel_block
from .local_attention import (
    local_logits,
    local_sum,
    neighbours,
    plain_local_logits,
    plain_local_sum,
    slide,
)
from .modes import is_traced, is_transformed, without_autocast
from .packed_external_attention import packed_external_attention
from .point_sampling import (
    furthest_points,
    gather_points,
    group_neighbours,
    nearest_points,
)
from .token_stats import TokenStats
from .windows import from_blocks, pad_to_blocks, to_windows, turn

__all__ = [
    'BatchStats',
    'TokenStats',
    'dot_product_attention',
    'double_norm',
    'external_attention',
    'external_attention_block',
    'find_kernel_obstacle',
    'from_blocks',
    'furthest_points',
    'gather_points',
    'group_neighbours',
    'is_traced',
    'is_transformed',
    'kernel_block',
    'local_logits',
    'local_sum',
    'low_memory_block',
    'low_rank_block',
    'nearest_points',
    'neighbours',
    'packed_external_attention',
    'pad_to_blocks',
    'plain_local_logits',
    'plain_local_sum',
    'slide',
    'to_windows',
    'turn',
    'without_autocast',
]
