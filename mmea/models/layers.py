"""The registered form of each layer.

A class of the same name as the layer's, which takes ``norm_cfg`` and
``act_cfg`` where the layer takes ``norm_layer`` and ``act_layer``. Called
without a mask, it takes the padding mask of the current batch (see
:mod:`mmea.models.padding`), if there is one.
"""

from functools import partial

from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn

from mmea import layers
from mmea.registry import MODELS

from .padding import current_mask

__all__ = [
    'EfficientAttention2d',
    'ExternalAttention2d',
    'NonLocal2d',
    'SelfAttention2d',
]


class _Registered:
    """Turn ``norm_cfg`` and ``act_cfg`` into layers; ask for the mask."""

    #: Whether the maps are those of the batch, padding included.
    padded = True

    def __init__(
        self,
        in_channels: int,
        *,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs,
    ):
        if norm_cfg is not None:
            kwargs['norm_layer'] = partial(_build_norm, norm_cfg)
        if act_cfg is not None:
            kwargs['act_layer'] = partial(build_activation_layer, act_cfg)
        super().__init__(in_channels, **kwargs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None and self.padded and self.supports_mask:
            mask = current_mask(x)
        return super().forward(x, mask)


def _build_norm(cfg: dict, num_features: int) -> nn.Module:
    return build_norm_layer(cfg, num_features)[1]


@MODELS.register_module()
class ExternalAttention2d(_Registered, layers.ExternalAttention2d):
    """:class:`mmea.layers.ExternalAttention2d` with ``norm_cfg, act_cfg``.

    Works as a ResNet plugin (``plugins=[dict(cfg=dict(type=
    'mmea.ExternalAttention2d'), ...)]``) and wherever a registry builds a
    layer.
    """


@MODELS.register_module()
class EfficientAttention2d(_Registered, layers.EfficientAttention2d):
    """:class:`mmea.layers.EfficientAttention2d`, configured likewise."""


@MODELS.register_module()
class NonLocal2d(_Registered, layers.NonLocal2d):
    """:class:`mmea.layers.NonLocal2d`, configured likewise.

    Not mmcv's class of the same name: the prefix ``mmea.`` tells them apart.
    """


@MODELS.register_module()
class SelfAttention2d(_Registered, layers.SelfAttention2d):
    """:class:`mmea.layers.SelfAttention2d`, configured likewise."""
