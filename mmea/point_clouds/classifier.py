from collections.abc import Sequence

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmea.layers._checks import (
    check_config,
    check_indices,
    check_int,
    check_positive,
    check_rates,
)
from mmea.registry import MODELS

from .blocks import check_batch, check_mode, labels_of, smoothed_loss

__all__ = ['PointCloudClassifier']


@MODELS.register_module()
class PointCloudClassifier(BaseModel):
    """Classify point clouds by the maxima over the points of a network.

    The maximum of each channel over the points, hidden layers with norm,
    activation and dropout, logits.

    Args:
        backbone (dict): Config of a network (B, C, N) to (B, ``in_channels``,
            M), such as ``dict(type='mmea.PCT')``.
        num_classes (int): K, at least 2.
        in_channels (int): Of the features. Default: 1024.
        hidden_channels (Sequence[int]): Widths of the hidden layers.
            Default: (512, 256).
        dropout (float): After each of them. Default: 0.5.
        label_smoothing (float): What the other classes have together in the
            target of a cloud. Default: 0.2, as published.
        norm_cfg (dict): Config of the norms. Default: ``dict(type='BN1d')``.
        act_cfg (dict): Default: ``dict(type='ReLU')``; PCT_Pytorch has
            ``dict(type='LeakyReLU', negative_slope=0.2)``.
        data_preprocessor (dict | nn.Module | None): Such as
            ``dict(type='mmea.PointCloudDataPreprocessor')``. Default: None.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None.

    Raises:
        ValueError: A size is below 1, or a rate is not in [0, 1).
        UserError: A label is missing or out of range, or a batch of one cloud
            in training, of which a batch norm has no statistics.

    Source: arXiv:2012.09688, details from the authors' code.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        *,
        in_channels: int = 1024,
        hidden_channels: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        label_smoothing: float = 0.2,
        norm_cfg: dict = dict(type='BN1d'),
        act_cfg: dict = dict(type='ReLU'),
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_config(backbone=backbone, norm_cfg=norm_cfg, act_cfg=act_cfg)
        check_int(2, num_classes=num_classes)
        check_positive(in_channels=in_channels)
        check_rates(dropout=dropout, label_smoothing=label_smoothing)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.backbone = MODELS.build(backbone)
        head: list[nn.Module] = []
        for width in check_indices(hidden_channels, 'hidden_channels'):
            check_positive(hidden_channels=width)
            head += [
                # As published: the first norm alone has no bias before it.
                nn.Linear(in_channels, width, bias=bool(head)),
                build_norm_layer(norm_cfg, width)[1],
                build_activation_layer(act_cfg),
                nn.Dropout(dropout),
            ]
            in_channels = width
        self.head = nn.Sequential(*head, nn.Linear(in_channels, num_classes))

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | Sequence[BaseDataElement]:
        """Run the model.

        Args:
            inputs (Tensor): Clouds, (B, C, N).
            data_samples (Sequence[BaseDataElement] | None): ``gt_label``, for
                the loss. Default: None.
            mode (str): 'tensor' for logits (B, K), 'loss' for a dict of the
                loss, 'predict' for the data samples (new ones if there are
                none) with ``pred_score`` (K,) and ``pred_label`` (1,), as
                the metrics of mmpretrain read them. Default: 'tensor'.
        """
        check_mode(mode)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        logits = self.head(self.backbone(inputs).amax(2))
        if mode == 'tensor':
            return logits
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in logits]
        for sample, score in zip(data_samples, logits.softmax(1), strict=True):
            sample.set_field(score, 'pred_score')
            sample.set_field(score.argmax(0, keepdim=True), 'pred_label')
        return data_samples

    def loss(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None
    ) -> dict[str, Tensor]:
        """Compute the loss and the accuracy of the batch, in percent."""
        labels = labels_of(data_samples, 'gt_label', self.num_classes)[:, 0]
        check_batch(self, inputs)
        logits = self(inputs)
        return dict(
            loss=smoothed_loss(logits, labels, self.label_smoothing),
            accuracy=logits.argmax(1).eq(labels).float().mean() * 100,
        )
