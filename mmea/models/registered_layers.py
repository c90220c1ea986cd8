"""The registered form of each layer.

A class of the same name as the layer's, which takes ``norm_cfg`` and
``act_cfg`` where the layer takes ``norm_layer`` and ``act_layer``. Called
without a mask, it takes the padding mask of the current batch (see
:mod:`mmea.models.padding_mask`), if there is one.

A ``build_func`` of the registry could do the first, but mmcv's
``build_plugin_layer`` looks the class up and calls it.
"""

from functools import partial
from typing import Any, TypeVar

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmengine.model import initialize
from torch import Tensor, nn

from mmea import layers
from mmea.layers._checks import check_config
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
    'OffsetAttention1d',
    'OutlookAttention2d',
    'SAGANAttention2d',
    'SAGANExternalAttention2d',
    'SelfAttention2d',
    'StandAloneAttention2d',
    'StandAloneStem2d',
]


Layer = TypeVar('Layer', bound=nn.Module)


class _Registered(layers.AttentionBlock2d):
    """Turn ``norm_cfg`` and ``act_cfg`` into layers; ask for the mask."""

    #: Whether the maps are those of the batch, padding included.
    padded = True

    def __init__(
        self,
        in_channels: int,
        *,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if norm_cfg is not None:
            kwargs['norm_layer'] = partial(_build_norm, norm_cfg)
        if act_cfg is not None:
            kwargs['act_layer'] = partial(build_activation_layer, act_cfg)
        super().__init__(in_channels, **kwargs)

    def find_mask(self, x: Tensor) -> Tensor | None:
        return current_mask(x) if self.padded else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x, self.find_mask(x) if mask is None else mask)


def _build_norm(cfg: dict, num_features: int) -> nn.Module:
    return build_norm_layer(cfg, num_features)[1]


def _register(layer: type[Layer]) -> type[Layer]:
    """Register the form of a layer that takes configs of its norm and act."""
    return MODELS.register_module(
        module=type(
            layer.__name__,
            (_Registered, layer),
            dict(__doc__=layer.__doc__, __module__=__name__),
        )
    )


ExternalAttention2d = _register(layers.ExternalAttention2d)
EfficientAttention2d = _register(layers.EfficientAttention2d)
CBAMGate2d = _register(layers.CBAMGate2d)
ELSA2d = _register(layers.ELSA2d)
HaloAttention2d = _register(layers.HaloAttention2d)
LinearAttention2d = _register(layers.LinearAttention2d)
OutlookAttention2d = _register(layers.OutlookAttention2d)
SAGANAttention2d = _register(layers.SAGANAttention2d)
SAGANExternalAttention2d = _register(layers.SAGANExternalAttention2d)
SelfAttention2d = _register(layers.SelfAttention2d)
StandAloneAttention2d = _register(layers.StandAloneAttention2d)
StandAloneStem2d = _register(layers.StandAloneStem2d)
# mmcv has a class of the same name: the prefix ``mmea.`` tells them apart.
NonLocal2d = _register(layers.NonLocal2d)
# These have nothing to configure.
CaaMAttention = MODELS.register_module(module=layers.CaaMAttention)
CATTLayer = MODELS.register_module(module=layers.CATTLayer)


@MODELS.register_module()
class CaaMPair2d(layers.CaaMPair2d):
    """:class:`mmea.layers.CaaMPair2d`; ``gate`` is the config of a layer."""

    def __init__(self, in_channels: int, *, gate: dict | None = None) -> None:
        make = None if gate is None else partial(build_attention, gate)
        super().__init__(in_channels, gate_layer=make)


@MODELS.register_module()
class CATT2d(_Registered, layers.CATT2d):
    """:class:`mmea.layers.CATT2d`; ``in_sample`` is the config of a layer."""

    def __init__(
        self, in_channels: int, *, in_sample: dict | None = None, **kwargs: Any
    ) -> None:
        if in_sample is not None:
            kwargs['in_sample'] = partial(build_attention, in_sample)
        super().__init__(in_channels, **kwargs)


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
        **kwargs: Any,
    ) -> None:
        if dropout_layer is not None:
            kwargs['dropout_layer'] = partial(build_dropout, dropout_layer)
        super().__init__(embed_dims, num_heads, **kwargs)
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        super().init_weights()
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)


@MODELS.register_module()
class OffsetAttention1d(layers.OffsetAttention1d):
    """:class:`mmea.layers.OffsetAttention1d`; norm and act are configs.

    ``norm_cfg`` (default ``dict(type='BN1d')``) and ``act_cfg`` (default
    ``dict(type='ReLU')``) stand for ``norm_layer`` and ``act_layer``; None is
    none.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        norm_cfg: dict | None = dict(type='BN1d'),
        act_cfg: dict | None = dict(type='ReLU'),
        **kwargs: Any,
    ) -> None:
        kwargs['norm_layer'] = kwargs['act_layer'] = None
        if norm_cfg is not None:
            check_config(norm_cfg=norm_cfg)
            kwargs['norm_layer'] = partial(_build_norm, norm_cfg)
        if act_cfg is not None:
            check_config(act_cfg=act_cfg)
            kwargs['act_layer'] = partial(build_activation_layer, act_cfg)
        super().__init__(in_channels, **kwargs)
