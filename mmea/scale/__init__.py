"""Attention over tokens that are not all in one call. torch only."""

from .contexts import collect_token_stats, use_token_stats

__all__ = ['collect_token_stats', 'use_token_stats']
