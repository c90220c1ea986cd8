"""The bytes of published weights, and their names."""

import hashlib
import io

import torch
from torch import Tensor

from mmea.errors import UserError

__all__ = ['hashed_name', 'to_half', 'to_pth', 'to_safetensors']


def hashed_name(name: str, data: bytes, suffix: str) -> str:
    """Name a file by its content, as torchvision does.

    Returns:
        str: ``NAME-1234abcd.pth``, with the first eight digits of the sha256.
    """
    return f'{name}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}'


def to_half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the entries of float32 or more into float16.

    Raises:
        UserError: An entry has numbers beyond the range of float16.
    """
    halves = {}
    for name, value in state.items():
        if value.is_floating_point():
            half = value.half()
            if (half.isinf() & value.isfinite()).any():
                raise UserError(
                    f'--half: {name} has numbers up to {value.abs().max():g}, '
                    'and float16 ends at 65504; publish without it'
                )
            value = half
        halves[name] = value
    return halves


def to_pth(state: dict[str, Tensor], meta: dict) -> bytes:
    """Write a checkpoint of weights and ``meta.dataset_meta`` alone."""
    buffer = io.BytesIO()
    torch.save(dict(meta=dict(dataset_meta=meta), state_dict=state), buffer)
    return buffer.getvalue()


def to_safetensors(state: dict[str, Tensor]) -> bytes:
    """Write weights as safetensors.

    Raises:
        UserError: The package safetensors is missing.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(
            'mmea publish needs the package safetensors: pip install '
            'safetensors'
        ) from error
    # Two names of one tensor are refused, so each gets its own.
    apart = {
        k: v.clone(memory_format=torch.contiguous_format)
        for k, v in state.items()
    }
    # With a second entry the order of both, and the hash, would be random.
    return save(apart, dict(format='pt'))
