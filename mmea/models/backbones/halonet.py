from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmea.layers._checks import (
    check_choice,
    check_config,
    check_flags,
    check_indices,
    check_int,
    check_positive,
)
from mmea.models.build_attention import build_attention, check_attention
from mmea.registry import MODELS

__all__ = ['HaloNet']

# Block, halo, width of the values and of the output over that of the block,
# blocks of each stage, width of the final convolution.
_ARCHS = {
    'H0': (8, 3, 1, 0.5, (3, 3, 7, 3), None),
    'H1': (8, 3, 1, 1, (3, 3, 10, 3), None),
    'H2': (8, 3, 1, 1.25, (3, 3, 11, 3), None),
    'H3': (10, 3, 1, 1.5, (3, 3, 12, 3), 1024),
    'H4': (12, 2, 1, 3, (3, 3, 12, 3), 1280),
    'H5': (14, 2, 2.5, 2, (3, 3, 23, 3), 1536),
    'H6': (8, 4, 3, 2.75, (3, 3, 24, 3), 1536),
    'H7': (10, 3, 4, 3.5, (3, 3, 26, 3), 2048),
}
_NUM_HEADS = (4, 8, 8, 8)


@MODELS.register_module()
class HaloNet(BaseModule):
    """HaloNet: bottlenecks whose middle is halo attention.

    A stage of width w, 64 for the first and twice of it from stage to stage,
    has blocks ``act(shortcut(x) + conv3(attention(conv1(x))))``: 1x1 to w
    channels, halo attention with values of r_v w channels and without a
    projection of its own, 1x1 to r_b w channels; a norm behind each, an
    activation behind the first two. The first block of a stage after the
    first halves the map by every second query. The stem is that of a ResNet.

    ========  ==  ==  ====  ====  =============  =====
    ``arch``  b   h   r_v   r_b   blocks         d_f
    ========  ==  ==  ====  ====  =============  =====
    'H0'      8   3   1     0.5   3, 3, 7, 3     --
    'H1'      8   3   1     1     3, 3, 10, 3    --
    'H2'      8   3   1     1.25  3, 3, 11, 3    --
    'H3'      10  3   1     1.5   3, 3, 12, 3    1024
    'H4'      12  2   1     3     3, 3, 12, 3    1280
    'H5'      14  2   2.5   2     3, 3, 23, 3    1536
    'H6'      8   4   3     2.75  3, 3, 24, 3    1536
    'H7'      10  3   4     3.5   3, 3, 26, 3    2048
    ========  ==  ==  ====  ====  =============  =====

    Args:
        arch (str): A row of the table. Default: 'H0'.
        in_channels (int): Channels of the image. Default: 3.
        base_channels (int): Width of the stem and of the first stage, a
            multiple of 8. Default: 64.
        from_stage (str): The first stage of attention, 'C2' to 'C5', which
            are ``layer1`` to ``layer4``; those before have a 3x3 convolution
            of r_v w channels in its place. Default: 'C2', all of them.
        attention (dict | None): More arguments of
            ``mmea.HaloAttention2d``, such as ``masked``, or others than the
            table's. Default: None.
        final_conv (bool): A 1x1 convolution to d_f channels, norm and
            activation behind the last stage, in front of a classifier, where
            the table has d_f. Default: False.
        out_indices (Sequence[int]): Stages whose maps are returned.
            Default: (0, 1, 2, 3).
        frozen_stages (int): Stem (0) and stages up to this one are not
            trained; -1: none. Default: -1.
        norm_cfg (dict): Default: ``dict(type='BN', requires_grad=True)``.
        act_cfg (dict): Default: ``dict(type='SiLU')``.
        norm_eval (bool): Keep the statistics of batch norms. Default: False.
        with_cp (bool): Recompute each block in the backward pass.
            Default: False.
        init_cfg (dict | list | None): Default: None, Kaiming for the
            convolutions, and a zero weight of the last norm of each block.

    Shapes:
        (B, 3, H, W) to a tuple of (B, r_b w, H', W'), H' = ceil(H / 4) in C2
        and half of it from stage to stage. Maps of any size.

    Raises:
        ValueError: An unknown ``arch`` or stage, ``base_channels`` or
            ``out_indices`` out of range.

    Source: arXiv:2103.12731. Numbers of the table from a published
    implementation of it (keras_cv_attention_models).
    """

    def __init__(
        self,
        arch: str = 'H0',
        *,
        in_channels: int = 3,
        base_channels: int = 64,
        from_stage: str = 'C2',
        attention: dict | None = None,
        final_conv: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        act_cfg: dict = dict(type='SiLU'),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(
                    type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']
                ),
            ]
        super().__init__(init_cfg)
        check_choice('arch', arch, _ARCHS)
        check_positive(in_channels=in_channels)
        check_int(-1, frozen_stages=frozen_stages)
        check_config(norm_cfg=norm_cfg, act_cfg=act_cfg)
        check_flags(
            final_conv=final_conv, norm_eval=norm_eval, with_cp=with_cp
        )
        block, halo, value_ratio, out_ratio, depths, final = _ARCHS[arch]
        if (
            type(base_channels) is not int
            or base_channels < 8
            or base_channels % 8
        ):
            raise ValueError(
                f'base_channels must be a multiple of 8, got {base_channels=}'
            )
        stages = [f'C{i + 2}' for i in range(len(depths))]
        check_choice('from_stage', from_stage, stages)
        out_indices = check_indices(out_indices)
        if not out_indices or set(out_indices) - set(range(len(depths))):
            raise ValueError(
                f'out_indices must list stages from 0 to {len(depths) - 1}, '
                f'got {out_indices=}'
            )
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.conv1 = build_conv_layer(
            None,
            in_channels,
            base_channels,
            7,
            stride=2,
            padding=3,
            bias=False,
        )
        self.bn1 = build_norm_layer(norm_cfg, base_channels)[1]
        self.act = build_activation_layer(act_cfg)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        check_attention(attention)
        attention = dict(
            dict(
                type='mmea.HaloAttention2d',
                block_size=block,
                halo_size=halo,
                project=False,
            ),
            **(attention or {}),
        )
        channels = base_channels
        self.res_layers = []
        for i, (depth, heads) in enumerate(zip(depths, _NUM_HEADS)):
            width = base_channels * 2**i
            local = i >= stages.index(from_stage)
            settings: dict[str, Any] = dict(
                value_channels=int(width * value_ratio),
                out_channels=int(width * out_ratio),
                attention=(
                    {'num_heads': heads, **attention} if local else None
                ),
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
                with_cp=with_cp,
            )
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(
                    _Bottleneck(channels, width, stride=stride, **settings)
                )
                channels = settings['out_channels']
            self.res_layers.append(f'layer{i + 1}')
            self.add_module(self.res_layers[-1], Sequential(*blocks))
        self.final = None
        if final_conv and final is not None:
            self.final = Sequential(
                build_conv_layer(None, channels, final, 1, bias=False),
                build_norm_layer(norm_cfg, final)[1],
                build_activation_layer(act_cfg),
            )
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i == len(self.res_layers) - 1 and self.final is not None:
                x = self.final(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'HaloNet':
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        names = ['conv1', 'bn1', *self.res_layers[: self.frozen_stages]]
        for name in names:
            module = getattr(self, name).eval()
            for param in module.parameters():
                param.requires_grad = False


class _Bottleneck(BaseModule):
    """1x1, attention or a 3x3 convolution, 1x1, and the shortcut."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        value_channels: int,
        out_channels: int,
        stride: int,
        attention: dict | None,
        norm_cfg: dict,
        act_cfg: dict,
        with_cp: bool,
    ) -> None:
        super().__init__(
            init_cfg=dict(
                type='Constant',
                val=0,
                override=dict(name='bn3'),
            )
        )
        self.with_cp = with_cp
        self.conv1 = build_conv_layer(None, in_channels, width, 1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, width)[1]
        if attention is None:
            self.conv2 = build_conv_layer(
                None,
                width,
                value_channels,
                3,
                stride=stride,
                padding=1,
                bias=False,
            )
        else:
            self.conv2 = build_attention(
                dict(
                    attention,
                    key_channels=width,
                    value_channels=value_channels,
                    residual=False,
                ),
                width,
                out_channels=value_channels,
                stride=stride,
            )
        self.bn2 = build_norm_layer(norm_cfg, value_channels)[1]
        self.conv3 = build_conv_layer(
            None, value_channels, out_channels, 1, bias=False
        )
        self.bn3 = build_norm_layer(norm_cfg, out_channels)[1]
        self.act = build_activation_layer(act_cfg)
        self.downsample = None
        if (in_channels, stride) != (out_channels, 1):
            self.downsample = Sequential(
                build_conv_layer(
                    None, in_channels, out_channels, 1, stride, bias=False
                ),
                build_norm_layer(norm_cfg, out_channels)[1],
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act(shortcut + y)
