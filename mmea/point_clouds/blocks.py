"""What the networks of this wing share."""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers import OffsetAttention1d
from mmea.models.build_attention import build_attention, check_attention
from mmea.registry import MODELS

__all__ = [
    'NeighbourPool',
    'build_point_attention',
    'check_batch',
    'check_mode',
    'labels_of',
    'point_conv',
    'smoothed_loss',
]

LEAKY = dict(type='LeakyReLU', negative_slope=0.2)


def point_conv(
    in_channels: int,
    out_channels: int,
    norm_cfg: dict,
    act_cfg: dict = dict(type='ReLU'),
) -> nn.Sequential:
    """Project each point, normalise, activate: (B, C, N) to (B, C', N)."""
    return nn.Sequential(
        nn.Conv1d(in_channels, out_channels, 1, bias=False),
        build_norm_layer(norm_cfg, out_channels)[1],
        build_activation_layer(act_cfg),
    )


class NeighbourPool(nn.Sequential):
    """Project all neighbours twice, and take the maximum of each group.

    What is projected is concat(f_neighbour - f_centre, f_centre). The first
    projection is linear and comes before the choice of neighbours: N and M
    products of C by C' where there were M k of 2C by C'. The norms' statistics
    are over all neighbours.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm_cfg: dict
    ) -> None:
        super().__init__(
            point_conv(in_channels, out_channels, norm_cfg),
            point_conv(out_channels, out_channels, norm_cfg),
        )

    def forward(  # type: ignore[override]
        self, features: Tensor, neighbours: Tensor, centres: Tensor
    ) -> Tensor:
        """Pool the neighbours of each centre.

        Args:
            features (Tensor): Of points, (B, C, N).
            neighbours (Tensor): Indices (B, M, k).
            centres (Tensor): Indices (B, M).

        Returns:
            Tensor: (B, C', M).
        """
        first, second = self.children()
        conv, norm, act = first.children()
        near, centre = conv.get_parameter('weight').chunk(2, 1)
        own = F.conv1d(_take(features, centres), centre - near)  # (B, C', M)
        x = _take(F.conv1d(features, near), neighbours)  # (B, C', M, k)
        x = second(act(norm((x + own.unsqueeze(3)).flatten(2))))
        return x.unflatten(2, neighbours.shape[1:]).amax(3)

    def reference(self, groups: Tensor) -> Tensor:
        """Compute the same of (B, M, k, 2C), as group_neighbours() gives it.

        The readable form, which tests compare :meth:`forward` with.
        """
        x = super().forward(groups.flatten(1, 2).transpose(1, 2))
        return x.unflatten(2, groups.shape[1:3]).amax(3)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Take points of (B, C, N) by indices (B, ...), (B, C, ...)."""
    flat = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    return x.gather(2, flat).unflatten(2, index.shape[1:])


def build_point_attention(
    attention: dict | None, channels: int, norm_cfg: dict | None = None
) -> nn.Module:
    """Build the attention of a network on points from its config.

    Args:
        attention (dict | None): ``type`` and the arguments of
            ``mmea.OffsetAttention1d``, or of any registered layer on maps,
            for which the points are a map of one row: one that reads windows
            finds the wrong neighbours there. ``None`` is an identity.
        channels (int): Width of the points.
        norm_cfg (dict | None): That of an OffsetAttention1d without one.
            Default: None, its own default.

    Returns:
        nn.Module: (B, channels, N) to the same.

    Raises:
        ValueError, TypeError: As of
            :func:`mmea.models.build_attention.build_attention`.
    """
    check_attention(attention)
    if attention is None:
        return nn.Identity()
    kind = attention.get('type')
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not (inspect.isclass(cls) and issubclass(cls, OffsetAttention1d)):
        # The outputs of all layers of PCT are joined, each the next's input.
        layer = build_attention(attention, channels, padded=False, keep=True)
        return _Row(layer)
    cfg = dict(attention)
    if norm_cfg is not None:
        cfg.setdefault('norm_cfg', norm_cfg)
    if cfg.setdefault('in_channels', channels) != channels:
        raise ValueError(
            f'attention.in_channels={cfg["in_channels"]}, but the host has '
            f'{channels} channels there; leave it out'
        )
    return MODELS.build(cfg)


class _Row(nn.Module):
    """A layer on maps; the points are one row of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unsqueeze(2)).squeeze(2)


def labels_of(
    samples: Sequence[BaseDataElement] | None, field: str, number: int
) -> Tensor:
    """Stack the labels of a batch, (B,) or (B, N).

    Args:
        samples (Sequence[BaseDataElement] | None): The data samples.
        field (str): Their field, such as 'gt_label'.
        number (int): Labels are in 0..number - 1.

    Raises:
        UserError: A sample has no label, or one that is out of range, or
            their numbers differ.
    """
    found = []
    for i, sample in enumerate(samples or [BaseDataElement()]):
        label = sample.get(field)
        where = sample.get('path', f'cloud {i} of the batch')
        if label is None:
            raise UserError(
                f'{where} has no {field}; the data set must set it'
            )
        label = label.flatten()
        if label.numel() and not 0 <= label.min() <= label.max() < number:
            raise UserError(
                f'{where} has {field} from {label.min()} to {label.max()}, '
                f'but the model knows 0..{number - 1}; correct the labels or '
                'its number of classes'
            )
        found.append(label)
    if len({len(label) for label in found}) > 1:
        raise UserError(
            f'{field} of the batch have the lengths '
            f'{[len(label) for label in found]}; they must be equal'
        )
    return torch.stack(found)


def check_mode(mode: str) -> None:
    """Raise a ValueError for a mode that mmengine does not have."""
    if mode not in ('tensor', 'loss', 'predict'):
        raise ValueError(f'mode must be tensor, loss or predict, got {mode=}')


def check_batch(model: nn.Module, inputs: Tensor) -> None:
    """Raise a UserError for one cloud where norms want several."""
    if model.training and len(inputs) == 1:
        parts = model.modules()
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in parts):
            raise UserError(
                'a training batch of one cloud gives a batch norm of whole '
                'clouds no statistics; set batch_size to 2 or more and '
                'drop_last=True in train_dataloader'
            )


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with ``1 - smoothing`` on the label.

    The other classes share ``smoothing``; torch's ``label_smoothing`` gives
    the label a share too.

    Args:
        logits (Tensor): (B, K, ...).
        labels (Tensor): (B, ...).
        smoothing (float): In [0, 1).
    """
    full = torch.promote_types(logits.dtype, torch.float32)
    logs = logits.log_softmax(1, dtype=full)
    own = logs.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = (logs.sum(1) - own) / (logits.shape[1] - 1)
    return -((1 - smoothing) * own + smoothing * others).mean()
