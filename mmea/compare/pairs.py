"""Differences between runs of the same seed."""

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from scipy import stats

__all__ = ['Difference', 'paired_difference']


class Difference(NamedTuple):
    """A mean of differences, and how sure it is.

    Attributes:
        mean (float): Over the seeds that both have.
        half (float | None): Half of the 95 % confidence interval of the mean;
            None for a single seed.
        number (int): Of seeds.
    """

    mean: float
    half: float | None
    number: int

    def __str__(self) -> str:
        if self.half is None:
            return f'{self.mean:+.2f}'
        low, high = self.mean - self.half, self.mean + self.half
        return f'{self.mean:+.2f} [{low:+.2f}, {high:+.2f}]'


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> Difference | None:
    """Compare two members by the seeds that both have.

    The interval is Student's, of the differences: it assumes that they are
    normally distributed, and with few seeds it is wide.

    Args:
        ours, theirs (Mapping[int, float]): A metric by seed.

    Returns:
        Difference | None: Of ours minus theirs; None without a common seed.

    Example:
        >>> from mmea.compare.pairs import paired_difference
        >>> str(paired_difference({0: 61.0, 1: 62.0}, {0: 60.0, 1: 60.5}))
        '+1.25 [-1.93, +4.43]'
    """
    values = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if not values:
        return None
    mean, number = statistics.mean(values), len(values)
    if number == 1:
        return Difference(mean, None, number)
    error = statistics.stdev(values) / number**0.5
    half = float(stats.t.ppf(0.975, number - 1)) * error
    return Difference(mean, half, number)
