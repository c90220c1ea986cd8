from typing import Any

import torch
from mmengine.dataset import ConcatDataset
from mmengine.dist import all_reduce, broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmea.errors import UserError
from mmea.layers._checks import check_int, check_positive
from mmea.registry import HOOKS

from .irm_environments import find_environments

__all__ = ['CaaMPartitionHook']


@HOOKS.register_module()
class CaaMPartitionHook(Hook):
    """Part the training samples into CaaM's environments, again and again.

    At first by chance, in equal parts. From epoch ``begin`` on, every
    ``interval`` epochs, the spurious features of all samples are taken, in
    evaluation mode and with the training pipeline, and
    :func:`mmea.caam.irm_environments.find_environments` parts the samples by
    them. Before each iteration every data sample gets its ``environment``.

    The partition is in the checkpoints, under ``partition``, so that a
    resumed run goes on with it. In a distributed run each process reads its
    share of the samples, and all have the same partition.

    Args:
        interval (int): Epochs between refreshes. Default: 40.
        begin (int | None): Epochs trained before the first refresh; 0 makes
            sense for pretrained weights. Default: None, ``interval``. (The
            authors' settings have 40 and then 20, and begin with a partition
            by another, trained network.)
        search_epochs (int): See ``epochs`` of
            :func:`mmea.caam.irm_environments.find_environments`. Default: 100.
        seed (int): Of the partitions. Default: 0.

    Raises:
        ValueError: A number is out of range.
        UserError: The model is no CaaMClassifier or the like, the training
            does not count epochs, the data samples have no ``sample_idx``,
            or the checkpoint has a partition of another number of samples.

    Source: arXiv:2108.08782; see
    :func:`mmea.caam.irm_environments.find_environments`.
    """

    def __init__(
        self,
        interval: int = 40,
        begin: int | None = None,
        search_epochs: int = 100,
        seed: int = 0,
    ) -> None:
        check_positive(interval=interval, search_epochs=search_epochs)
        check_int(0, seed=seed)
        self.interval = interval
        self.begin = interval if begin is None else begin
        check_int(0, begin=self.begin)
        self.search_epochs = search_epochs
        self.seed = seed
        self.partition: Any = None  # a Tensor, once the training begins

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError(
                'CaaMPartitionHook counts epochs; set train_cfg.type='
                f'EpochBasedTrainLoop, got {type(runner.train_loop).__name__}'
            )
        dataset = runner.train_dataloader.dataset
        if isinstance(dataset, ConcatDataset):
            raise UserError(
                'sample_idx of a ConcatDataset counts in each of its parts; '
                'make the training data one data set for CaaMPartitionHook'
            )
        envs, number = getattr(_plain(runner), 'num_envs', None), len(dataset)
        if envs is None:
            raise UserError(
                f'{type(_plain(runner)).__name__} has no num_envs; '
                'CaaMPartitionHook serves CaaMClassifier'
            )
        if runner.epoch and self.partition is not None:  # resumed
            if len(self.partition) != number or self.partition.max() >= envs:
                raise UserError(
                    f'the checkpoint has a partition of '
                    f'{len(self.partition)} samples into '
                    f'{self.partition.max() + 1} environments, the run has '
                    f'{number} and {envs}; resume with the same data set and '
                    'model.num_envs'
                )
            return
        if runner.epoch:
            runner.logger.warning(
                'The checkpoint has no partition: environments by chance'
            )
        generator = torch.Generator().manual_seed(self.seed)
        self.partition = torch.randperm(number, generator=generator) % envs

    def before_train_epoch(self, runner: Runner) -> None:
        late = runner.epoch - self.begin
        if late < 0 or late % self.interval:
            return
        features, labels, seen = self._collect(runner)
        found = find_environments(
            features[seen],
            labels[seen],
            _plain(runner).num_envs,
            epochs=self.search_epochs,
            seed=self.seed + runner.epoch,
        )
        broadcast(found)
        # Samples that the loader drops stay where they are.
        self.partition[seen.cpu()] = found.cpu()
        sizes = self.partition.bincount().tolist()
        runner.logger.info(f'Environments refreshed: {sizes} samples')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        for sample in data_batch['data_samples']:
            env = int(self.partition[_index(sample)])
            sample.set_metainfo(dict(environment=env))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['partition'] = self.partition

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.partition = checkpoint.get('partition')

    @torch.no_grad()
    def _collect(self, runner: Runner) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, C), labels (N,) and who has them, bool (N,)."""
        model, number = _plain(runner), len(self.partition)
        training = model.training
        model.eval()
        weight = model.env_weights
        features = weight.new_zeros(number, model.in_channels)
        labels = torch.zeros(number, dtype=torch.long, device=weight.device)
        counts = torch.zeros_like(labels)
        for batch in runner.train_dataloader:
            data = model.data_preprocessor(batch, False)
            spurious = model.extract_feats(data['inputs'])[1]
            samples = data['data_samples']
            index = torch.tensor(
                [_index(s) for s in samples], device=weight.device
            )
            features.index_add_(0, index, spurious.to(features))
            counts.index_add_(0, index, torch.ones_like(index))
            labels[index] = torch.cat([s.gt_label.flatten() for s in samples])
        model.train(training)
        all_reduce(features)
        all_reduce(counts)
        all_reduce(labels, 'max')
        # A sampler may repeat some to fill the last batch.
        features /= counts.clamp(min=1)[:, None]
        return features, labels, counts > 0


def _plain(runner: Runner) -> Any:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _index(sample: BaseDataElement) -> int:
    index = sample.get('sample_idx')
    if index is None:
        raise UserError(
            "a data sample has no 'sample_idx'; add it to meta_keys of the "
            'packing transform of the training pipeline'
        )
    return int(index)
