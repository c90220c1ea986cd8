"""A validation more than there would be, and a training that is the same."""

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmea.engine.hooks import FirstValidationHook


class Line(BaseModel):
    """One weight; notes in which mode, and at which value, it is called."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1, bias=False)
        self.seen = []

    def forward(self, x, mode):
        self.seen.append((mode, self.training, self.line.weight.item()))
        y = self.line(torch.stack(list(x)).float())
        return dict(loss=y.square().mean()) if mode == 'loss' else list(y)


def train(folder, by_epoch, iters, hook=None, **more):
    loader = dict(
        dataset=[torch.ones(1)] * 2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
        collate_fn=lambda x: dict(x=x),
    )
    length = 'max_epochs' if by_epoch else 'max_iters'
    torch.manual_seed(0)
    runner = Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg={'by_epoch': by_epoch, length: iters, 'val_interval': 99},
        val_cfg=dict(),
        val_evaluator=[],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch)
        ),
        custom_hooks=[hook or FirstValidationHook()],
        experiment_name=f'{folder.name}{by_epoch}{iters}',
        log_level='ERROR',
        **more,
    )
    runner.train()
    return runner.model.seen


def test_validates_first(tmp_path):
    for by_epoch in (False, True):
        folder = tmp_path / str(by_epoch)
        seen = train(folder, by_epoch, 2)
        assert [kind[:2] for kind in seen[:3]] == [
            ('predict', False), ('predict', False), ('loss', True),
        ]  # fmt: skip
        assert len({weight for _, _, weight in seen[:3]}) == 1
        assert seen[3][0] == 'loss' and seen[3][2] != seen[2][2]
        seen = train(folder, by_epoch, 3, resume=True)
        assert seen[0][0] == 'loss'
