from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from mmea import train
from mmea.engine.checkpoint import load_checkpoint
from mmea.engine.hooks import FiniteLossHook
from mmea.errors import UserError


class Training:
    """A linear layer under the hook; a batch is a factor of its loss."""

    def __init__(self, make=OptimWrapper, several=False, **kwargs):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        self.optim_wrapper = self.wrapper = make(optimizer=optimizer)
        if several:
            self.optim_wrapper = OptimWrapperDict(one=self.wrapper)
        self.logger = MMLogger.get_instance('test_finite_loss_hook')
        self.iter, self.train_loop = 0, None
        self.hook = FiniteLossHook(**kwargs)
        self.hook.before_train(self)

    def step(self, factor: float) -> torch.Tensor:
        sample = SimpleNamespace(img_path=f'{self.iter}.png')
        self.hook.before_train_iter(self, 0, dict(data_samples=[sample]))
        loss = factor * self.model(torch.ones(1, 3)).sum()
        self.wrapper.update_params(loss)
        self.iter += 1
        return self.model.weight.detach().clone()


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize('several', [False, True])
@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_it_stops_before_the_weights_are_lost(bad, several):
    training = Training(several=several)
    good = training.step(1.0)
    with pytest.raises(UserError) as info:
        training.step(bad)
    text = str(info.value)
    for part in (
        f'{abs(bad)} at iteration 2, with the learning rate 0.5; ',
        '2 of 2 are not finite (such as bias)',
        'images: 1.png. ',
        'skip=True',
    ):
        assert part in text
    assert '\n' not in text
    assert torch.equal(training.model.weight, good)


def test_it_leaves_a_batch_out_if_asked():
    training, other = Training(skip=True), Training()
    training.step(1.0)
    before = training.step(NAN)
    other.step(1.0)
    assert torch.equal(before, other.model.weight)
    assert torch.equal(training.step(2.0), other.step(2.0))


def test_patience_is_for_batches_in_a_row():
    training = Training(skip=True, patience=2)
    for factor in (NAN, NAN, 1.0, INF, NAN):
        training.step(factor)
    with pytest.raises(UserError, match='the loss is nan at iteration 6'):
        training.step(NAN)


def test_a_loss_scaler_skips_by_itself(monkeypatch):
    def make(optimizer):
        wrapper = AmpOptimWrapper(optimizer=optimizer)
        wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
        return wrapper

    # mmengine's wrapper asks for a GPU first.
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available',
        lambda: True,
    )
    training = Training(make, patience=3)
    good = training.step(1.0)
    for _ in range(3):
        assert torch.equal(training.step(INF), good)
    assert training.wrapper.loss_scaler.get_scale() == 0.5
    with pytest.raises(UserError, match='the loss is -?inf'):
        training.step(INF)


def test_weights_of_nan_are_not_written():
    hook, runner = FiniteLossHook(), SimpleNamespace(iter=7)
    state = dict(a=torch.ones(2), n=torch.tensor(3), b=torch.tensor([1, NAN]))
    with pytest.raises(UserError, match='weight b is NaN at iteration 7: no'):
        hook.before_save_checkpoint(runner, dict(state_dict=state))
    del state['b']
    hook.before_save_checkpoint(runner, dict(state_dict=state))


@pytest.mark.parametrize('drop_last', [False, True])
def test_an_epoch_without_a_batch(drop_last):
    training = Training()
    training.train_loop = loop = EpochBasedTrainLoop.__new__(
        EpochBasedTrainLoop
    )
    loop.dataloader = DataLoader(range(3), batch_size=4, drop_last=drop_last)
    if not drop_last:
        training.hook.before_train(training)
        return
    with pytest.raises(UserError, match='3 samples for batches of 4'):
        training.hook.before_train(training)


def test_a_training_that_diverges(project, run):
    """Every training has the hook; what was written before stays."""
    options = ('optim_wrapper.optimizer.lr=1e18',)
    interval = 'default_hooks.checkpoint.interval=1'
    with pytest.raises(
        SystemExit, match='error: the loss is .*training/'
    ) as e:
        run(train.main, 'tiny.py', '--work-dir', 'work', '--cfg-options',
            *options, interval)  # fmt: skip
    assert '\n' not in str(e.value)
    for path in Path('work').glob('*.pth'):
        for value in load_checkpoint(path)['state_dict'].values():
            assert not value.isnan().any()
