"""The registered form of each layer.

A class of the same name as the layer's, which takes ``norm_cfg`` and
``act_cfg`` where the layer takes ``norm_layer`` and ``act_layer``. Called
without a mask, it takes the padding mask of the current batch (see
:mod:`mmea.models.padding_mask`), if there is one.
"""

from functools import partial

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmengine.model import initialize
from torch import Tensor, nn

from mmea import layers
from mmea.registry import MODELS

from .build_attention import build_attention
from .padding_mask import current_mask

__all__ = [
    'CATT2d',
    'CATTLayer',
    'CBAMGate2d',
    'CaaMAttention',
    'CaaMPair2d',
    'ELSA2d',
    'EfficientAttention2d',
    'ExternalAttention2d',
    'HaloAttention2d',
    'LinearAttention2d',
    'MultiheadExternalAttention',
    'NonLocal2d',
    'SelfAttention2d',
    'StandAloneAttention2d',
    'StandAloneStem2d',
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
        if mask is None and self.padded:
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
class CBAMGate2d(_Registered, layers.CBAMGate2d):
    """:class:`mmea.layers.CBAMGate2d`, configured likewise."""


@MODELS.register_module()
class CaaMPair2d(layers.CaaMPair2d):
    """:class:`mmea.layers.CaaMPair2d`; ``gate`` is the config of a layer."""

    def __init__(self, in_channels: int, *, gate: dict | None = None):
        make = None if gate is None else partial(build_attention, gate)
        super().__init__(in_channels, gate_layer=make)


# These have nothing to configure.
CaaMAttention = MODELS.register_module(module=layers.CaaMAttention)
CATTLayer = MODELS.register_module(module=layers.CATTLayer)


@MODELS.register_module()
class CATT2d(_Registered, layers.CATT2d):
    """:class:`mmea.layers.CATT2d`; ``in_sample`` is the config of a layer."""

    def __init__(
        self, in_channels: int, *, in_sample: dict | None = None, **kwargs
    ):
        if in_sample is not None:
            kwargs['in_sample'] = partial(build_attention, in_sample)
        super().__init__(in_channels, **kwargs)


@MODELS.register_module()
class ELSA2d(_Registered, layers.ELSA2d):
    """:class:`mmea.layers.ELSA2d`, configured likewise."""


@MODELS.register_module()
class HaloAttention2d(_Registered, layers.HaloAttention2d):
    """:class:`mmea.layers.HaloAttention2d`, configured likewise."""


@MODELS.register_module()
class LinearAttention2d(_Registered, layers.LinearAttention2d):
    """:class:`mmea.layers.LinearAttention2d`, configured likewise."""


@MODELS.register_module()
class MultiheadExternalAttention(layers.MultiheadExternalAttention):
    """:class:`mmea.layers.MultiheadExternalAttention` from a config.

    ``dropout_layer`` is a config, such as ``dict(type='DropPath',
    drop_prob=0.1)``, as mmcv's MultiheadAttention has it, and ``init_cfg`` is
    mmengine's.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        dropout_layer: dict | None = None,
        init_cfg: dict | list | None = None,
        **kwargs,
    ):
        if dropout_layer is not None:
            kwargs['dropout_layer'] = partial(build_dropout, dropout_layer)
        super().__init__(embed_dims, num_heads, **kwargs)
        self.init_cfg = init_cfg

    def init_weights(self):
        super().init_weights()
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)


@MODELS.register_module()
class NonLocal2d(_Registered, layers.NonLocal2d):
    """:class:`mmea.layers.NonLocal2d`, configured likewise.

    Not mmcv's class of the same name: the prefix ``mmea.`` tells them apart.
    """


@MODELS.register_module()
class SelfAttention2d(_Registered, layers.SelfAttention2d):
    """:class:`mmea.layers.SelfAttention2d`, configured likewise."""


@MODELS.register_module()
class StandAloneAttention2d(_Registered, layers.StandAloneAttention2d):
    """:class:`mmea.layers.StandAloneAttention2d`, configured likewise."""


@MODELS.register_module()
class StandAloneStem2d(_Registered, layers.StandAloneStem2d):
    """:class:`mmea.layers.StandAloneStem2d`, configured likewise."""
