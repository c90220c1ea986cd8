"""The module that stands in for ``mmcv._ext``.

Its functions have the names and the arguments by which mmcv's Python calls
the compiled ones. Under every other name there is a function that raises
:class:`~mmea.mmcv_ops.missing.MissingOp`, so that ``mmcv.ops`` imports.
"""

import os
import sys
from collections.abc import Callable
from multiprocessing import parent_process
from typing import NoReturn

import torch

from mmea.mmcv_ops.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from mmea.mmcv_ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from mmea.mmcv_ops.missing import missing_op
from mmea.mmcv_ops.ms_deform_attn import (
    ms_deform_attn_backward,
    ms_deform_attn_forward,
)
from mmea.mmcv_ops.nms import nms, nms_match, softnms
from mmea.mmcv_ops.psa_mask import psamask_backward, psamask_forward
from mmea.mmcv_ops.roi_align import roi_align_backward, roi_align_forward
from mmea.mmcv_ops.roi_pool import roi_pool_backward, roi_pool_forward

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'psamask_backward',
    'psamask_forward',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """Name what ``mmcv.utils.collect_env()`` lists as the ops' compiler."""
    import torchvision

    return f'none, ops of torchvision {torchvision.__version__}'


def get_compiling_cuda_version() -> str:
    """Tell the CUDA version of torch and so of torchvision."""
    return torch.version.cuda or 'not available'


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith('__'):
        raise AttributeError(name)
    return missing_op(name)


# Once per run: not from each rank, nor from a DataLoader's worker.
if os.environ.get('RANK', '0') == '0' and parent_process() is None:
    print(
        f'mmcv has no compiled ops: {get_compiler_version()[6:]} are used',
        file=sys.stderr,
    )
