from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.layers._checks import check_number, check_positive
from mmea.registry import MODELS

__all__ = ['CaaMClassifier']


@MODELS.register_module()
class CaaMClassifier(BaseModel):
    """CaaM: classifiers of environments that are to agree.

    Training samples are parted into environments, in which a class goes with
    different contexts (see :class:`mmea.engine.hooks.CaaMPartitionHook`). Each
    has a classifier W_e, without bias, on the causal features of its samples;
    one more classifier reads the mix of causal and spurious features::

        loss_env        = mean over e of CE(W_e causal)
        loss_invariance = w mean over e of (|W_e - mean W|_2 / |W_e|_1)^2
        loss_mix        = CE(mix_fc(mix))

    What predicts is ``mean W`` on the causal features. An environment without
    a sample in the batch does not count in ``loss_env``.

    Args:
        backbone (dict): Config of one that returns causal, spurious and mix,
            maps (B, C, H, W), of which the mean is taken, or (B, C), such as
            ``dict(type='mmea.CaaMResNet', multi=True)``.
        num_classes (int): K.
        in_channels (int): Channels C of the features: 512 for a CaaMResNet
            of the usual width.
        num_envs (int): Environments. Default: 4.
        penalty_weight (float): w. Default: 5e5, as published for ResNet-18;
            5e4 for the transformer.
        data_preprocessor (dict | nn.Module | None): Of mmengine's BaseModel.
            Default: None.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None.

    Raises:
        ValueError: A number is below 1 or ``penalty_weight`` below 0; in
            ``loss`` an environment that is missing or out of range; a
            backbone that does not return three features.

    Source: arXiv:2108.08782; losses, weight and initialisation (normal with
    variance 2 / C) from the authors' code. There each environment has a batch
    of its own, batch norm statistics too; here they share one batch.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        in_channels: int,
        *,
        num_envs: int = 4,
        penalty_weight: float = 5e5,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_positive(
            num_classes=num_classes, in_channels=in_channels, num_envs=num_envs
        )
        check_number(0, penalty_weight=penalty_weight)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.num_envs = num_envs
        self.penalty_weight = penalty_weight
        self.backbone = MODELS.build(backbone)
        self.env_weights = nn.Parameter(
            torch.empty(num_envs, num_classes, in_channels)
        )
        self.mix_fc = nn.Linear(in_channels, num_classes)
        for weight in (*self.env_weights, self.mix_fc.weight):
            nn.init.kaiming_normal_(weight)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | Sequence[BaseDataElement]:
        """Run the model.

        Args:
            inputs (Tensor): Images, (B, 3, H, W).
            data_samples (Sequence[BaseDataElement] | None): ``gt_label``,
                and ``environment`` (int) for the loss. Default: None.
            mode (str): 'tensor' for logits (B, K), 'loss' for a dict of the
                losses, 'predict' for the data samples (new ones if there are
                none) with ``pred_score`` (K,) and ``pred_label`` (1,), as
                the metrics of mmpretrain read them. Default: 'tensor'.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)  # type: ignore[arg-type]
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode != 'tensor':
            raise ValueError(
                f'mode must be tensor, loss or predict, got {mode=}'
            )
        causal = self.extract_feats(inputs)[0]
        return F.linear(causal, self.env_weights.mean(0))

    def extract_feats(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Causal, spurious and mixed features, (B, C) each."""
        feats = self.backbone(inputs)
        if len(feats) != 3:
            raise ValueError(
                'backbone must return causal, spurious and mixed features, '
                f'got {len(feats)} of {type(self.backbone).__name__}; '
                'CaaMResNet does with multi=True'
            )
        return tuple(x.mean((2, 3)) if x.dim() == 4 else x for x in feats)

    def loss(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Compute the three losses."""
        causal, _, mix = self.extract_feats(inputs)
        labels = torch.cat([s.gt_label.flatten() for s in data_samples])
        envs = self._environments(data_samples).to(labels.device)
        # (B, E, K), and of each sample its own environment's.
        logits = F.linear(causal, self.env_weights.flatten(0, 1))
        logits = logits.unflatten(1, (self.num_envs, self.num_classes))
        logits = logits[torch.arange(len(envs), device=envs.device), envs]
        risks = F.cross_entropy(logits, labels, reduction='none')
        present = envs.unique()
        total: Any = sum(risks[envs == e].mean() for e in present)
        return dict(
            loss_env=total / len(present),
            loss_invariance=self.penalty_weight * self._disagreement(),
            loss_mix=F.cross_entropy(self.mix_fc(mix), labels),
        )

    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
    ) -> Sequence[BaseDataElement]:
        """Scores and labels, on the data samples."""
        scores = self(inputs).softmax(1)
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in scores]
        for sample, score in zip(data_samples, scores, strict=True):
            sample.set_field(score, 'pred_score')
            sample.set_field(score.argmax(0, keepdim=True), 'pred_label')
        return data_samples

    def _environments(self, data_samples: Sequence[BaseDataElement]) -> Tensor:
        envs = [sample.get('environment') for sample in data_samples]
        if None in envs:
            raise ValueError(
                "a data sample has no 'environment'; add "
                "dict(type='mmea.CaaMPartitionHook') to custom_hooks, or "
                'write the environment in the data set'
            )
        if not all(0 <= env < self.num_envs for env in envs):
            raise ValueError(
                f'environments must be in 0..{self.num_envs - 1} for '
                f'num_envs={self.num_envs}, got {sorted(set(envs))}'
            )
        return torch.tensor(envs)

    def _disagreement(self) -> Tensor:
        weights = self.env_weights.flatten(1)
        gaps = (weights - weights.mean(0)).square().sum(1)
        return (gaps / weights.abs().sum(1).square()).mean()
