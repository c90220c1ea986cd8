import pytest

from mmea import train
from mmea.errors import UserError


def test_unknown_config(fails):
    message = fails(config='ea_fpn_ade2k.py')
    assert 'no config file ea_fpn_ade2k.py' in message
    assert "did you mean 'ea_fpn_ade20k.py'" in message


def test_config_without_a_demo(fails, project):
    (project / 'own.py').write_text("default_scope = 'mmseg'\nmodel = dict()")
    message = fails('--demo', config='own.py')
    assert 'own.py has no demo' in message and 'demo_data' in message


def test_traceback_on_demand(project, run, monkeypatch):
    monkeypatch.setenv('MMEA_TRACEBACK', '1')
    with pytest.raises(UserError, match='no config file'):
        run(train.main, 'nothing.py')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a = (', 'SyntaxError'),
        ("_base_ = './gone.py'", 'gone.py'),
        ('a = 1 / 0', 'ZeroDivisionError: division by zero'),
        ("_base_ = './tiny.py'\nmodel = 3", 'model'),
    ],
)
def test_a_config_that_cannot_be_read(fails, project, text, words):
    (project / 'own.py').write_text(text)
    message = fails(config='own.py')
    assert 'own.py' in message and words in message


def test_an_option_that_nothing_reads(fails):
    message = fails('--cfg-options', 'trian_cfg.max_iters=2')
    assert (
        "tiny.py has no key 'trian_cfg', did you mean 'train_cfg'?" in message
    )
    message = fails('--cfg-options', 'randomness.seed=1', 'num_class=2')
    assert "--cfg-options num_class: tiny.py has no key 'num_class'" in message


def test_an_option_that_comes_too_late(fails, project):
    """The schedule was computed from it when the file was read."""
    (project / 'own.py').write_text(
        "_base_ = './tiny.py'\nmax_iters = 5\n"
        'train_cfg = dict(max_iters=max_iters)\n'
    )
    message = fails('--cfg-options', 'max_iters=9', config='own.py')
    assert 'max_iters: what own.py computes from max_iters' in message
    assert 'set train_cfg.max_iters' in message


def test_an_option_over_something_else(fails):
    message = fails('--cfg-options', 'train_cfg.max_iters.foo=3')
    assert 'cannot set train_cfg.max_iters.foo in tiny.py' in message
