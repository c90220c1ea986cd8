import pytest

from mmea.errors import UserError
from mmea.new.project import split_at_random
from mmea.new.summary import median_size, spread


def test_split():
    names = [f'{i:02}' for i in range(20)]
    train, val = split_at_random(names, 0.2, 0)
    assert (len(train), len(val)) == (16, 4)
    assert sorted(train + val) == names
    # Whatever the order; another seed, another choice.
    assert split_at_random(names[::-1], 0.2, 0) == (train, val)
    assert split_at_random(names, 0.2, 1) != (train, val)
    assert [*map(len, split_at_random('ab', 0.99, 0))] == [1, 1]
    with pytest.raises(UserError, match='1 labelled image cannot be split'):
        split_at_random('a', 0.5, 0)


def test_spread():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert spread(7, 1) == [0]


def test_median_size():
    assert median_size([(1, 30), (2, 20), (9, 10)]) == (2, 20)
