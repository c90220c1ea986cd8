"""What a checkpoint may build, and what it may not."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mmengine.logging import HistoryBuffer

from mmea.engine.checkpoint import load_checkpoint
from mmea.engine.safe_pickle import Refused, safe_globals, settle
from mmea.errors import UserError

KINDS = set('biufcSU')
# numpy's own path to an array, as pickles of both its versions name it.
RECONSTRUCT = np.arange(2).__reduce__()[0]
SCALAR = np.float64(1).__reduce__()[0]


class Call:
    """Unpickling it calls a function, and then sets a state."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) + (() if state is None else (state,))

    def __reduce__(self):
        return self.parts

    def __repr__(self):  # the same in every process
        return f'{self.parts[0].__name__}{self.parts[1:]}'


def load(value, tmp_path):
    torch.save(dict(x=value), tmp_path / 'x.pth')
    return load_checkpoint(tmp_path / 'x.pth')['x']


def same(a, b):
    assert isinstance(a, np.ndarray) is isinstance(b, np.ndarray)
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    array=arrays.arrays(
        st.one_of(
            arrays.boolean_dtypes(),
            arrays.integer_dtypes(endianness='?'),
            arrays.unsigned_integer_dtypes(endianness='?'),
            arrays.floating_dtypes(endianness='?'),
            arrays.complex_number_dtypes(endianness='?'),
            arrays.unicode_string_dtypes(endianness='?'),
        ),
        arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    by_columns=st.booleans(),
)
def test_arrays_come_back(array, by_columns, tmp_path_factory):
    if by_columns:
        array = np.asfortranarray(array)
    same(load(array, tmp_path_factory.getbasetemp()), array)


@pytest.mark.parametrize('kind', np.typecodes['AllInteger'] + '?efdgFDG')
def test_every_numeric_dtype(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        values = np.array([0, 1, 3]).astype(kind)
    same(load(values, tmp_path), values)
    same(load(values[2], tmp_path), values[2])


@pytest.mark.parametrize(
    'value',
    [
        np.array([len], object),
        np.zeros(2, [('a', 'f4'), ('b', 'O')]),
        np.zeros(2, [('a', 'f4')]),
        np.zeros(2, 'V3'),
        np.zeros(1, [('a', 'f4')])[0],
        np.array(['2020-01-01'], 'M8[D]'),
        Call(np.ndarray, (1,), 'O', b'AAAAAAAA'),
        Call(np.ndarray, (1,), 'f8'),
        Call(np.dtype, 'O'),
        Call(np.dtype, [('a', 'O')]),
        Call(np.dtype, 'f8,O'),
        Call(np.dtype, dict(names=['a'], formats=['O'])),
        Call(np.dtype, '(2,)f8'),
        Call(RECONSTRUCT, np.ndarray, (0,), b'b'),  # and nothing in it
        Call(RECONSTRUCT, HistoryBuffer, (0,), b'b'),
        Call(HistoryBuffer),
        Call(HistoryBuffer, state=dict(min=1)),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, np.ndarray, 'tofile'),
        Call(eval, '1'),
        Call(SCALAR, np.dtype('f8'), b'1234'),
        Call(SCALAR, np.dtype('f8'), 'text'),
    ],
    ids=repr,
)  # fmt: skip
def test_everything_else_is_refused(value, tmp_path):
    with pytest.raises(UserError, match='nothing in it was|damaged') as info:
        load(value, tmp_path)
    text = str(info.value)
    assert 'add_safe_globals' not in text and '\n' not in text


def array_of(dtype, raw, shape, version=1, by_columns=False):
    state = (version, shape, dtype, by_columns, raw)
    return Call(RECONSTRUCT, np.ndarray, (0,), b'b', state=state)


@pytest.mark.parametrize(
    'dtype, raw, shape',
    [
        ('f8', b'12345678', (2,)),
        ('f8', b'12345678', (-1,)),
        ('f8', b'', (2**62, 4)),
        ('f8', [1.0], (1,)),
        ('f8', b'12345678', [1]),
        ('f8', b'12345678', (1.0,)),
        ('f8', b'12345678', 1),
    ],
    ids=repr,
)
def test_an_array_is_what_its_bytes_are(dtype, raw, shape, tmp_path):
    with pytest.raises(UserError, match='asks for an array|damaged'):
        load(array_of(np.dtype(dtype), raw, shape), tmp_path)


def test_a_dtype_with_a_state_of_objects(tmp_path):
    fields = dict(a=(np.dtype('f8'), 0))
    state = (3, '<', None, ('a',), fields, 8, 1, 0)
    dtype = Call(np.dtype, 'f8', False, True, state=state)
    with pytest.raises(UserError, match='several parts'):
        load(array_of(dtype, b'12345678', (1,)), tmp_path)


def test_a_history_holds_its_numbers_and_nothing_of_the_file(tmp_path):
    buffer = HistoryBuffer([1.0, 4.0], [1, 2], max_length=7)
    buffer.mean = 'a value of the file'
    got = load([buffer], tmp_path)[0]
    assert type(got) is HistoryBuffer and got.max_length == 7
    assert [x.tolist() for x in got.data] == [[1.0, 4.0], [1, 2]]
    assert got.mean() == 5 / 3 and got.statistics('max') == 4.0


def test_containers_that_hold_themselves(tmp_path):
    ring = dict(a=np.arange(3), b=[(np.float32(2),)])
    ring['b'].append(ring)
    got = load(ring, tmp_path)
    assert got['b'][1] is got
    same(got['a'], np.arange(3))
    same(got['b'][0][0], np.float32(2))


def test_what_a_metainfo_may_hold(tmp_path):
    """Of a training by another tool, whose checkpoint has it as it is."""
    got = load(dict(a=range(1, 9, 2), b=Path('/x/y')), tmp_path)
    assert got == dict(a=range(1, 9, 2), b='/x/y')


VALUES = [
    None, 0, 1, -1, 2**40, 1.5, True, b'', b'12345678', 'O', 'f8', 'V8', '',
    'f8,O', (), (0,), (1,), (-1,), (2**40,), [('a', 'O')], dict(a=1), object,
    np.ndarray, eval,
]  # fmt: skip


@pytest.mark.parametrize(
    'function, name', safe_globals(), ids=[name for _, name in safe_globals()]
)
def test_what_each_name_can_build(function, name):
    """Whatever it is called with: numbers and text, or an error."""
    if not callable(function):
        assert not hasattr(function, '__setstate__')
        return
    for count in range(4):
        for args in itertools.product(VALUES, repeat=min(count, 2)):
            args += (VALUES[0],) * (count - len(args))
            for state in (None, VALUES[0], (1, (1,), 'O', False, b'1'), args):
                try:
                    made = function(*args)
                    if state is not None:
                        made.__setstate__(state)
                    made = settle(made)
                except Exception:
                    continue
                if isinstance(made, HistoryBuffer):
                    made = made.data[0]
                if isinstance(made, np.dtype):
                    assert made.kind in KINDS
                elif isinstance(made, (np.ndarray, np.generic)):
                    assert made.dtype.kind in KINDS
                elif isinstance(made, (range, str)):
                    assert {*map(type, args)} <= {int, str}
                elif made != b'':
                    assert made is getattr(HistoryBuffer, args[1])


def test_refused_is_no_error_of_the_user():
    assert not issubclass(Refused, UserError)
