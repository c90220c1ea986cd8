import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmea.compare.pairs import paired_difference


def test_against_a_textbook():
    """Student's sleep data: one of the oldest paired comparisons there is.

    Mean 1.58, t(9) = 2.262, standard error 0.389: 0.70 to 2.46.
    """
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_difference(dict(enumerate(second)), dict(enumerate(first)))
    assert found.number == 10
    assert found.mean == pytest.approx(1.58)
    assert found.mean - found.half == pytest.approx(0.70, abs=5e-3)
    assert found.mean + found.half == pytest.approx(2.46, abs=5e-3)
    assert str(found) == '+1.58 [+0.70, +2.46]'


def test_few_seeds():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    alone = paired_difference({0: 1.0, 3: 5.0}, {3: 5.5, 4: 9.0})
    assert alone == (-0.5, None, 1) and str(alone) == '-0.50'


@given(st.dictionaries(st.integers(0, 9), st.floats(-99, 99), min_size=2))
def test_what_all_seeds_share_is_no_difference(values):
    """However far the seeds are apart, a constant gain is seen exactly."""
    found = paired_difference({k: v + 2 for k, v in values.items()}, values)
    assert found.mean == pytest.approx(2)
    assert found.half == pytest.approx(0, abs=1e-9)
