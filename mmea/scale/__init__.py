"""Attention over tokens that are not all in one call. torch only."""

from .contexts import collect_token_stats, use_token_stats
from .split_tokens import split_tokens

__all__ = ['collect_token_stats', 'split_tokens', 'use_token_stats']
