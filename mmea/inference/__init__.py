"""Trained models in use: load one, predict, draw and write what it found."""

from .predictor import Predictor, load, load_model

__all__ = ['Predictor', 'load', 'load_model']
