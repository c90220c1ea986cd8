from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmea.errors import UserError
from mmea.layers._checks import (
    check_config,
    check_flags,
    check_indices,
    check_int,
    check_positive,
)
from mmea.ops import furthest_points, gather_points, nearest_points
from mmea.registry import MODELS

from .blocks import LEAKY, NeighbourPool, build_point_attention, point_conv

__all__ = ['PCT']


@MODELS.register_module()
class PCT(BaseModule):
    """Point Cloud Transformer, without its last layers.

    Two projections of each point; neighbour embedding, which samples points
    far apart and lets each take the maximum over its neighbours, doubling the
    width; ``num_convs`` projections; ``num_layers`` attention layers one
    after the other. Their outputs, and what came out of the neighbour
    embedding if there is one, are fused into ``out_channels``.

    The defaults are the authors' classifier with position embedding;
    ``num_convs=2, position=False`` is PCT_Pytorch's; and
    ``stem_channels=128, num_points=(), num_convs=0, position=False`` the
    authors' part segmentor, which keeps all points.

    Args:
        in_channels (int): Channels of a point, coordinates first. Default: 3.
        stem_channels (int): Width of the first projections. Default: 64.
        num_points (Sequence[int]): Points that each neighbour embedding
            leaves; () is none. Default: (512, 256).
        num_neighbours (int): Of each, itself included. Default: 32.
        num_convs (int): Projections in front of the attention. Default: 1.
        num_layers (int): Attention layers. Default: 4.
        position (bool): Add a projection of the coordinates to the input of
            each attention layer. Default: True.
        out_channels (int): Default: 1024.
        attention (dict | None): Config of the attention layers, see
            :func:`build_point_attention`; ``dict(external=True,
            type='mmea.OffsetAttention1d')`` makes it EAT.
            Default: ``dict(type='mmea.OffsetAttention1d')``.
        norm_cfg (dict): Config of the norms, of (B, C, N).
            Default: ``dict(type='BN1d')``.
        init_cfg (dict | list | None): Of mmengine's BaseModule.
            Default: None.

    Shapes:
        (B, in_channels, N) to (B, out_channels, M), M the last of
        ``num_points``, or N.

    Raises:
        ValueError: A size is below 1, ``in_channels`` below 3, or
            ``num_points`` grow or are fewer than the neighbours of the next.
        UserError: Clouds of fewer points than are sampled, or another shape.

    Source: arXiv:2012.09688, details from the authors' code and from
    PCT_Pytorch. Initialisation: torch's default. As published, points within
    0.03 of the origin are not sampled.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        stem_channels: int = 64,
        num_points: Sequence[int] = (512, 256),
        num_neighbours: int = 32,
        num_convs: int = 1,
        num_layers: int = 4,
        position: bool = True,
        out_channels: int = 1024,
        attention: dict | None = dict(type='mmea.OffsetAttention1d'),
        norm_cfg: dict = dict(type='BN1d'),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_int(3, in_channels=in_channels)
        check_positive(
            stem_channels=stem_channels,
            num_neighbours=num_neighbours,
            num_layers=num_layers,
            out_channels=out_channels,
        )
        check_int(0, num_convs=num_convs)
        check_flags(position=position)
        check_config(norm_cfg=norm_cfg)
        self.num_points = check_indices(num_points, 'num_points')
        self.num_neighbours = num_neighbours
        steps = [*self.num_points, 1]
        if sorted(steps, reverse=True) != steps or any(
            number < num_neighbours for number in steps[:-2]
        ):
            raise ValueError(
                'num_points must be at least 1, not grow, and but for the '
                f'last be at least {num_neighbours=}, got '
                f'num_points={self.num_points}'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stem = nn.Sequential(
            point_conv(in_channels, stem_channels, norm_cfg),
            point_conv(stem_channels, stem_channels, norm_cfg),
        )
        width = stem_channels
        self.groups = nn.ModuleList()
        for _ in self.num_points:
            width *= 2
            self.groups.append(NeighbourPool(width, width, norm_cfg))
        self.convs = nn.Sequential(
            *(point_conv(width, width, norm_cfg) for _ in range(num_convs))
        )
        self.position = None
        if position:
            self.position = nn.Conv1d(3, width, 1, bias=False)
        self.layers = nn.ModuleList(
            build_point_attention(attention, width, norm_cfg)
            for _ in range(num_layers)
        )
        joined = width * (num_layers + bool(self.num_points))
        self.fuse = point_conv(joined, out_channels, norm_cfg, LEAKY)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, N) to (B, out_channels, M)."""
        self._check(x)
        points = x[:, :3].transpose(1, 2)  # (B, N, 3)
        x = self.stem(x)
        for number, pool in zip(self.num_points, self.groups):
            centres = furthest_points(points, number, skip_near_origin=True)
            sampled = gather_points(points, centres)
            near = nearest_points(points, sampled, self.num_neighbours)
            x = pool(x, near, centres)
            points = sampled
        parts = [x] if self.num_points else []
        x = self.convs(x)
        outs = []
        for layer in self.layers:
            if self.position is not None:
                x = x + self.position(points.transpose(1, 2))
            x = layer(x)
            outs.append(x)
        return self.fuse(torch.cat(outs + parts, 1))

    def _check(self, x: Tensor) -> None:
        if x.dim() != 3 or x.shape[1] != self.in_channels:
            raise UserError(
                f'PCT takes clouds (B, {self.in_channels}, N), channels '
                f'first, got {tuple(x.shape)}; set in_channels, or take '
                'mmea.PointCloudDataPreprocessor, which turns them'
            )
        least = 1
        if self.num_points:
            least = max(self.num_points[0], self.num_neighbours)
        if x.shape[2] < least:
            raise UserError(
                f'a cloud has {x.shape[2]} points, and PCT needs {least} for '
                f'num_points={self.num_points} and num_neighbours='
                f'{self.num_neighbours}; give larger clouds or lower these'
            )
