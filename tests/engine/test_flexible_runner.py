import pytest

from mmea.engine.checkpoint import load_checkpoint
from mmea.train import main


@pytest.mark.parametrize('verbose', [True, False])
def test_what_was_validated_counts_as_done(project, run, capsys, verbose):
    """mmengine's own says 3 in iter_2.pth, and leaves one out."""
    args = ('tiny.py', '--work-dir', 'work', '--resume')
    args = (*args, '--verbose') if verbose else args
    options = ('--cfg-options', 'runner_type=FlexibleRunner')
    run(main, *args, *options, 'train_cfg.max_iters=2')
    text = ''.join(capsys.readouterr())
    assert ('System environment' in text) is verbose
    assert load_checkpoint('work/iter_2.pth')['meta']['iter'] == 2
    run(main, *args, *options, 'train_cfg.max_iters=3')
    checkpoint = load_checkpoint('work/iter_3.pth')
    assert checkpoint['meta']['iter'] == 3
    assert checkpoint['param_schedulers'][0]['last_step'] == 3
