import os

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

pytest.importorskip('mmcv')

from mmea.caam import CaaMPartitionHook
from mmea.engine.checkpoint import load_checkpoint
from mmea.errors import UserError

NUMBER = 22


class Images(torch.utils.data.Dataset):
    """Images whose second channel, the spurious one, tells a context."""

    def __init__(self, index=True, number=NUMBER):
        self.index, self.number = index, number

    def __len__(self):
        return self.number

    def __getitem__(self, i):
        image = torch.full((3, 4, 4), float(i % 5))
        image[1] = i
        sample = BaseDataElement(gt_label=torch.tensor([i % 3]))
        if self.index:
            sample.set_metainfo(dict(sample_idx=i))
        return dict(inputs=image, data_samples=sample)


class Listed(BaseDataset):
    def load_data_list(self):
        return [{}]


class Paths(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        x = x + 0 * self.norm(x[:, :1])
        return x[:, :1], x[:, 1:2], x[:, 2:]


class Recorder(CaaMPartitionHook):
    """Remembers each partition, and what the model was trained with."""

    def before_run(self, runner):
        self.partitions, self.seen = {}, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        super().before_train_iter(runner, batch_idx, data_batch)
        self.partitions[runner.epoch] = self.partition.clone()
        for sample in data_batch['data_samples']:
            want = self.partition[sample.sample_idx]
            assert sample.environment == want

    def _collect(self, runner):
        out = super()._collect(runner)
        self.seen.append(out)
        return out


@pytest.fixture
def runner(tmp_path, safe):
    def make(hook, epochs=3, name='run', dataset=None, **kwargs):
        torch.manual_seed(0)
        return Runner(
            model=dict(
                type='mmea.CaaMClassifier',
                backbone=dict(type=Paths),
                num_classes=3,
                in_channels=1,
                num_envs=3,
                penalty_weight=1.0,
                data_preprocessor=dict(type='ImgDataPreprocessor'),
            ),
            work_dir=str(tmp_path),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=Images() if dataset is None else dataset,
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[hook],
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1)
            ),
            experiment_name=f'{tmp_path.name}_{name}',
            log_level='WARNING',
            **kwargs,
        )

    return make


def test_refresh_and_resume(runner, tmp_path):
    hook = Recorder(interval=2, search_epochs=3)
    run = runner(hook, epochs=5)
    run.train()
    first = hook.partitions[0]
    # By chance, in parts as equal as can be.
    assert sorted(first.bincount().tolist()) == [7, 7, 8]
    assert not torch.equal(first, torch.arange(NUMBER) % 3)
    assert len(hook.seen) == 2  # before the third and the fifth epoch
    assert torch.equal(hook.partitions[1], first)
    assert not torch.equal(hook.partitions[2], first)
    assert torch.equal(hook.partitions[3], hook.partitions[2])
    assert not torch.equal(hook.partitions[4], hook.partitions[2])
    features, labels, seen = hook.seen[0]
    assert seen.all()
    # Each sample's own, although the loader shuffles.
    torch.testing.assert_close(
        features[:, 0], torch.arange(NUMBER, dtype=torch.float32)
    )
    assert torch.equal(labels, torch.arange(NUMBER) % 3)

    # Checkpoint after epoch 4: the next epoch refreshes, from its weights.
    state = load_checkpoint(tmp_path / 'epoch_4.pth')
    assert torch.equal(state['partition'], hook.partitions[3])
    again = Recorder(interval=2, search_epochs=3)
    path = str(tmp_path / 'epoch_3.pth')
    runner(again, 4, 'again', resume=True, load_from=path).train()
    assert list(again.partitions) == [3] and not again.seen
    assert torch.equal(again.partitions[3], hook.partitions[3])
    last = Recorder(interval=2, search_epochs=3)
    path = str(tmp_path / 'epoch_4.pth')
    runner(last, 5, 'last', resume=True, load_from=path).train()
    assert torch.equal(last.partitions[4], hook.partitions[4])

    # Weights alone begin anew, whatever the checkpoint holds.
    new = Recorder(interval=9, seed=1)
    runner(new, 1, 'new', load_from=path).train()
    assert not torch.equal(new.partitions[0], hook.partitions[3])
    assert sorted(new.partitions[0].bincount().tolist()) == [7, 7, 8]

    with pytest.raises(UserError, match='22 samples .* has 9 and 3'):
        data = Images(number=9)
        runner(
            Recorder(), 6, 'less', data, resume=True, load_from=path
        ).train()


def test_epochs_of_the_refreshes(runner):
    """``begin``, then every ``interval``, counted from ``begin``."""
    epochs = []

    class Counter(CaaMPartitionHook):
        def _collect(self, runner):
            epochs.append(runner.epoch)
            return super()._collect(runner)

    runner(Counter(interval=2, begin=1, search_epochs=1), epochs=6).train()
    assert epochs == [1, 3, 5]


def test_a_refresh_leaves_the_model_alone(runner):
    hook = Recorder(begin=0, search_epochs=1)
    run = runner(hook)
    run._train_loop = run.build_train_loop(run._train_loop)
    model = run.model
    model.train()
    hook.before_run(run)
    hook.partition = torch.zeros(NUMBER, dtype=torch.long)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hook._collect(run)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_dropped_samples_keep_their_environment(runner):
    hook = Recorder(begin=0, search_epochs=2)
    run = runner(hook, epochs=1)
    run._train_dataloader['drop_last'] = True
    run.train()
    seen = hook.seen[0][2]
    assert seen.sum() == 20
    generator = torch.Generator().manual_seed(0)
    chance = torch.randperm(NUMBER, generator=generator) % 3
    got = hook.partitions[0]
    assert torch.equal(got[~seen], chance[~seen])
    assert not torch.equal(got[seen], chance[seen])


def test_what_a_run_lacks(runner):
    with pytest.raises(UserError, match="no 'sample_idx'; add it to meta_"):
        runner(CaaMPartitionHook(), dataset=Images(index=False)).train()
    with pytest.raises(UserError, match='make the training data one'):
        data = ConcatDataset([Listed(), Listed()])
        runner(CaaMPartitionHook(), name='two', dataset=data).train()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(interval=0), 'interval=0'),
        (dict(search_epochs=0), 'search_epochs=0'),
        (dict(begin=-1), 'begin=-1'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CaaMPartitionHook(**kwargs)


def _run_a_rank(rank, folder):
    """One of two processes that train on the data of the tests above."""
    os.environ['LOCAL_RANK'] = str(rank)  # mmengine asks for it
    init_method = f'file://{folder}/store'
    torch.distributed.init_process_group(
        'gloo', init_method, rank=rank, world_size=2
    )
    hook = Recorder(interval=1, search_epochs=3)
    Runner(
        work_dir=str(folder / 'work'),
        model=dict(
            type='mmea.CaaMClassifier',
            backbone=dict(type=Paths),
            num_classes=3,
            in_channels=1,
            num_envs=3,
            data_preprocessor=dict(type='ImgDataPreprocessor'),
        ),
        launcher='pytorch',
        cfg=dict(
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel', device_ids=None
            )
        ),
        train_dataloader=dict(
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=Images(),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[hook],
        default_scope='mmengine',
        randomness=dict(seed=0),
    ).train()
    torch.save((hook.partitions, hook.seen), folder / f'{rank}.pt')
    torch.distributed.destroy_process_group()


def test_two_processes_share_partition_and_features(tmp_path, processes):
    torch.multiprocessing.start_processes(
        _run_a_rank,
        (tmp_path,),
        nprocs=2,
        start_method=processes.get_start_method(),
    )
    (parts, seen), (parts1, seen1) = (
        torch.load(tmp_path / f'{rank}.pt') for rank in range(2)
    )
    assert list(parts) == [0, 1, 2]
    torch.testing.assert_close(parts, parts1, rtol=0, atol=0)
    assert not parts[0].equal(parts[1])
    assert len(seen) == 2
    for (features, labels, found), other in zip(seen, seen1):
        # Each read half of them; the spurious feature is the index.
        assert found.all()
        torch.testing.assert_close(
            features[:, 0], torch.arange(float(NUMBER)), rtol=0, atol=1e-6
        )
        assert labels.equal(torch.arange(NUMBER) % 3)
        torch.testing.assert_close((features, labels, found), other)
