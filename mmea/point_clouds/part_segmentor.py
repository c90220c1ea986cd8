from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.layers._checks import (
    check_config,
    check_int,
    check_positive,
    check_rates,
)
from mmea.registry import MODELS

from .blocks import (
    LEAKY,
    check_batch,
    check_mode,
    labels_of,
    point_conv,
    smoothed_loss,
)

__all__ = ['PointPartSegmentor']


@MODELS.register_module()
class PointPartSegmentor(BaseModel):
    """Tell of each point of a cloud, whose class is known, which part it is.

    Each point's features, their maximum and mean over the points, and a
    projection of the class go through two hidden layers to the logits.

    Args:
        backbone (dict): Config of a network (B, C, N) to (B, ``in_channels``,
            N), such as ``dict(type='mmea.PCT', stem_channels=128,
            num_points=(), num_convs=0, position=False)``.
        num_parts (int): Parts of all classes together, at least 2.
            Default: 50.
        num_classes (int): Classes of clouds. Default: 16.
        in_channels (int): Of the features. Default: 1024.
        class_channels (int): Width of the projected class. Default: 64.
        hidden_channels (int): Width of the first hidden layer; the second has
            half of it. Default: 512.
        dropout (float): After the first hidden layer. Default: 0.5.
        label_smoothing (float): What the other parts have together in the
            target of a point. Default: 0.2.
        norm_cfg (dict): Config of the norms. Default: ``dict(type='BN1d')``.
        data_preprocessor (dict | nn.Module | None): Such as
            ``dict(type='mmea.PointCloudDataPreprocessor')``. Default: None.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None.

    Raises:
        ValueError: A size is below 1, or a rate is not in [0, 1).
        UserError: A label is missing or out of range, or a batch of one cloud
            in training, of which a batch norm has no statistics.

    Source: arXiv:2012.09688, details from the authors' code, which has no
    training: the loss is that of the classifier.
    """

    def __init__(
        self,
        backbone: dict,
        num_parts: int = 50,
        *,
        num_classes: int = 16,
        in_channels: int = 1024,
        class_channels: int = 64,
        hidden_channels: int = 512,
        dropout: float = 0.5,
        label_smoothing: float = 0.2,
        norm_cfg: dict = dict(type='BN1d'),
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_config(backbone=backbone, norm_cfg=norm_cfg)
        check_int(2, num_parts=num_parts, hidden_channels=hidden_channels)
        check_positive(
            num_classes=num_classes,
            in_channels=in_channels,
            class_channels=class_channels,
        )
        check_rates(dropout=dropout, label_smoothing=label_smoothing)
        self.num_parts = num_parts
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.backbone = MODELS.build(backbone)
        self.class_conv = point_conv(
            num_classes, class_channels, norm_cfg, LEAKY
        )
        half = hidden_channels // 2
        self.head = nn.Sequential(
            nn.Conv1d(3 * in_channels + class_channels, hidden_channels, 1),
            build_norm_layer(norm_cfg, hidden_channels)[1],
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(hidden_channels, half, 1),
            build_norm_layer(norm_cfg, half)[1],
            nn.ReLU(),
            nn.Conv1d(half, num_parts, 1),
        )

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | Sequence[BaseDataElement]:
        """Run the model.

        Args:
            inputs (Tensor): Clouds, (B, C, N).
            data_samples (Sequence[BaseDataElement]): ``gt_label``, the class
                of the cloud; for the loss ``gt_parts`` (N,) too.
            mode (str): 'tensor' for logits (B, parts, N), 'loss' for a dict
                of the loss, 'predict' for the data samples with
                ``pred_parts`` (N,). Default: 'tensor'.
        """
        check_mode(mode)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        classes = labels_of(data_samples, 'gt_label', self.num_classes)
        x = self.backbone(inputs)
        kind = F.one_hot(classes[:, 0], self.num_classes).to(x.dtype)
        pooled = [
            x.amax(2, keepdim=True),
            x.mean(2, keepdim=True),
            self.class_conv(kind.unsqueeze(2)),
        ]
        pooled = [part.expand(-1, -1, x.shape[2]) for part in pooled]
        logits = self.head(torch.cat([x, *pooled], 1))
        if mode == 'tensor':
            return logits
        assert data_samples is not None  # labels_of() has read them
        for sample, parts in zip(data_samples, logits.argmax(1), strict=True):
            sample.set_field(parts, 'pred_parts')
        return data_samples

    def loss(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None
    ) -> dict[str, Tensor]:
        """Compute the loss and the accuracy of the points, in percent."""
        parts = labels_of(data_samples, 'gt_parts', self.num_parts)
        check_batch(self, inputs)
        logits = self(inputs, data_samples)
        return dict(
            loss=smoothed_loss(logits, parts, self.label_smoothing),
            accuracy=logits.argmax(1).eq(parts).float().mean() * 100,
        )
