import pytest

from mmea import train
from mmea.engine.config import load_config
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


def test_an_option_of_a_variable(project):
    (project / 'own.py').write_text(
        "_base_ = './tiny.py'\nside = (8, 8)\nrates = [0.5, 2.0]\n"
        'steps = [dict(type="Resize", scale=side),\n'
        '         dict(type="PackSegInputs")]\n'
        'test_dataloader = dict(dataset=dict(pipeline=steps))\n'
    )
    where = 'test_dataloader.dataset.pipeline'
    for option, place in {
        'side': f'{where}.0.scale',
        'steps.0.scale': where,
        'rates': None,
    }.items():
        with pytest.raises(UserError) as info:
            load_config('own.py', options={option: (4, 4)})
        text = str(info.value)
        assert f'--cfg-options {option}: what own.py computes' in text
        assert text.endswith(
            f'file, or set {place}, where its value stands'
            if place
            else 'change it in the file'
        )


@pytest.mark.parametrize(
    'key',
    ['model_wrapper_cfg.type', 'custom_imports.imports', 'demo_model',
     'sync_bn', 'compile', 'find_unused_parameters', 'strategy.type',
     'default_scope', 'tta_model.type', 'runner_type'],
)  # fmt: skip
def test_an_option_that_is_read(project, key):
    cfg = load_config('tiny.py', options={key: 'x'})
    found = cfg
    for part in key.split('.'):
        found = found[part]
    assert found == 'x'


def test_an_option_over_something_else(fails):
    message = fails('--cfg-options', 'train_cfg.max_iters.foo=3')
    assert 'cannot set train_cfg.max_iters.foo in tiny.py' in message
