"""Trained models as graphs without Python: ONNX and torch.export."""

from .writer import export, write

__all__ = ['export', 'write']
