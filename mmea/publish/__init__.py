"""A trained model in a folder: weights, config and card, to be handed on."""

from .config import published_config
from .folder import publish
from .hub import Hub

__all__ = ['Hub', 'publish', 'published_config']
