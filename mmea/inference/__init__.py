"""Trained models in use: load one, predict, draw and write what it found."""

from .predictor import Predictor, load

__all__ = ['Predictor', 'load']
