"""The command that plants faults, on a package of one line."""

import pytest

from .faults.__main__ import ROOT, FaultError, check, main, plant
from .faults.faults import FAULTS, Fault

MODULE = 'def double(x):\n    return 2 * x\n'
TEST = 'from mmea.math import double\n\n\ndef test_double():\n    '
CAUGHT = Fault('a', 'mmea.math.double', '2 *', '3 *', 'tests/test_math.py')


def test_every_fault_still_applies():
    assert len(FAULTS) >= 60
    check(FAULTS, ROOT)


@pytest.fixture
def tree(tmp_path):
    """A package mmea with a test that sees that it is called with 2."""
    (tmp_path / 'mmea').mkdir()
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'mmea/__init__.py').touch()
    (tmp_path / 'mmea/math.py').write_text(MODULE)
    test = tmp_path / 'tests/test_math.py'
    test.write_text(TEST + 'assert double(2) == 4\n')
    return tmp_path


def test_a_fault_is_caught(tree, capsys):
    main(['--jobs', '1'], [CAUGHT], tree)
    out = capsys.readouterr().out
    assert 'a: tests/test_math.py::test_double' in out
    assert 'NOT CAUGHT' not in out
    assert (tree / 'mmea/math.py').read_text() == MODULE


def test_a_fault_is_not_caught(tree, capsys):
    (tree / 'tests/test_math.py').write_text(TEST + 'assert double(0) == 0\n')
    with pytest.raises(SystemExit) as end:
        main(['--jobs', '1'], [CAUGHT], tree)
    assert end.value.code == 1
    assert 'Not caught: a' in capsys.readouterr().out


def test_tests_that_fail_without_a_fault_prove_nothing(tree):
    (tree / 'tests/test_math.py').write_text(TEST + 'assert double(2) == 5\n')
    with pytest.raises(SystemExit, match='the tests fail without a fault'):
        main(['--jobs', '1'], [CAUGHT], tree)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(old='4 *'), "'4 \\*' must be once in mmea.math.double"),
        (dict(old='x'), "'x' must be once"),
        (dict(place='mmea.math.triple'), "needs one 'triple'"),
        (dict(place='mmea.maths.double'), "needs one 'maths'"),
        (dict(place='other.math'), 'no module for other.math'),
        (dict(new='2  *'), 'the change changes nothing'),
        (dict(new='2 +*'), 'the result is no Python'),
        (
            dict(tests='tests/test_maths.py'),
            'tests/test_maths.py is not there',
        ),
    ],
)
def test_a_fault_that_does_not_apply(tree, changes, words):
    fault = Fault(**{**vars(CAUGHT), **changes})
    with pytest.raises(FaultError, match=words):
        plant(fault, tree)
    with pytest.raises(SystemExit, match=words):
        main(['--check'], [fault], tree)


def test_names(tree, capsys):
    main(['--list', 'mmea.math'], [CAUGHT], tree)
    assert capsys.readouterr().out.split() == ['a', 'mmea.math.double']
    with pytest.raises(SystemExit):
        main(['b'], [CAUGHT], tree)
    assert "no fault 'b'" in capsys.readouterr().err
