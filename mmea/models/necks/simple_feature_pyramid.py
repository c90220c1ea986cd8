from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmea.layers._checks import check_config, check_indices, check_positive
from mmea.registry import MODELS

__all__ = ['SimpleFeaturePyramid']


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """A feature pyramid from one map of stride 16, in mmseg and mmdet alike.

    For backbones without stages, such as :class:`EAMLP`: the map is scaled to
    each stride by itself (two transposed convolutions for 4, one for 8, a max
    pooling for 32 and more), then a 1x1 and a 3x3 convolution follow, each
    with a norm.

    Args:
        in_channels (int): Channels of the map, a multiple of 4.
        out_channels (int): Channels of every level. Default: 256.
        strides (Sequence[int]): Of the levels, in pixels; powers of two from
            4 on. Default: (4, 8, 16, 32).
        norm_cfg (dict): Config of the norms.
            Default: ``dict(type='GN', num_groups=32)``, which needs widths
            that it divides; the narrowest is ``in_channels // 2``.
        init_cfg (dict | list | None): Of mmengine's BaseModule.

    Shapes:
        A sequence of one (B, in_channels, h, w) to a tuple of (B,
        out_channels, 4 h, 4 w), ..., (B, out_channels, ceil(h / 2),
        ceil(w / 2)), one for each stride.

    Raises:
        ValueError: ``in_channels`` is no multiple of 4, a stride is not one
            of those, or the input has another number of maps than one.

    Source: arXiv:2203.16527, simple feature pyramid, there with a norm over
    the channels of each pixel, and a subsampled last level beyond stride 32.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        norm_cfg: dict = dict(type='GN', num_groups=32),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_positive(in_channels=in_channels, out_channels=out_channels)
        check_config(norm_cfg=norm_cfg)
        strides = check_indices(strides, 'strides')
        if in_channels % 4:
            raise ValueError(
                f'in_channels must be a multiple of 4, got {in_channels=}'
            )
        known = [2**i for i in range(2, 8)]
        if not strides or any(stride not in known for stride in strides):
            raise ValueError(
                f'strides must be of {", ".join(map(str, known))}, got '
                f'{strides=}'
            )
        self.levels = nn.ModuleList()
        for stride in strides:
            scale, width = _scale(in_channels, stride, norm_cfg)
            convs = [
                ConvModule(
                    width if size == 1 else out_channels,
                    out_channels,
                    size,
                    padding=size // 2,
                    norm_cfg=norm_cfg,
                    act_cfg=None,
                )
                for size in (1, 3)
            ]
            self.levels.append(nn.Sequential(*scale, *convs))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) != 1:
            raise ValueError(
                'SimpleFeaturePyramid takes one map of stride 16, got '
                f'{len(inputs)}; let out_indices of the backbone name one '
                'layer'
            )
        return tuple(level(inputs[0]) for level in self.levels)


def _scale(
    width: int, stride: int, norm_cfg: dict
) -> tuple[list[nn.Module], int]:
    """Make what brings a map from stride 16 to another; tell its channels."""
    if stride > 16:
        by = stride // 16
        return [nn.MaxPool2d(by, by, ceil_mode=True)], width
    if stride == 16:
        return [], width
    first = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
    if stride == 8:
        return [first], width // 2
    second = nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2)
    norm = build_norm_layer(norm_cfg, width // 2)[1]
    return [first, norm, nn.GELU(), second], width // 4
