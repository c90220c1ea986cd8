from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmea.layers._checks import (
    check_choice,
    check_config,
    check_flags,
    check_indices,
    check_int,
    check_positive,
)
from mmea.registry import MODELS

from .block import CaaMBlock

__all__ = ['CaaMResNet']

# Blocks of each stage.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


@MODELS.register_module()
class CaaMResNet(BaseModule):
    """CaaM's ResNet: from one stage on, a causal and a spurious path.

    The stem and stages of a ResNet of basic blocks, each block with a gate.
    The second block of stage ``split_stage`` parts the map into a causal and
    a spurious one, the later blocks take both. Names of parameters are those
    of a plain ResNet, whose weights load; gates and the norms of the spurious
    path (``bn3``, ``bn4``) are then missing and keep their initialisation.

    Args:
        depth (int): 18 or 34. Default: 18.
        split_stage (int): Stage of the split, 1 to 4. Default: 2, as in the
            authors' settings.
        in_channels (int): Channels of the image. Default: 3.
        base_channels (int): Width of the stem and of stage 1; it doubles
            from stage to stage. Default: 64.
        out_indices (int | Sequence[int]): Stages whose maps are returned, 0
            to 3, that is stride 4 to 32. Stages after the last of them are
            not built. Default: (3,).
        multi (bool): Return causal, spurious and mix of the last stage
            instead, for :class:`CaaMClassifier`. Default: False.
        gate (dict): Config of the gates, without a residual.
            Default: ``dict(type='mmea.CBAMGate2d')``.
        norm_cfg (dict): Config of the norms. Default: ``dict(type='BN')``.
        norm_eval (bool): Keep all batch norms in evaluation mode, also in
            training. Default: False.
        init_cfg (dict | list | None): Of mmengine's BaseModule, over the
            published initialisation. Default: None.

    Shapes:
        (B, in_channels, H, W) to a tuple with the causal map of each of
        ``out_indices``, in ascending order: (B, base_channels 2^i,
        ceil(H / (4 2^i)), ceil(W / (4 2^i))). With ``multi`` to three maps
        of the last stage's shape.

    Raises:
        ValueError: ``depth`` or ``split_stage`` is unknown, a size is below
            1, ``out_indices`` are out of range or end before the split, or
            ``multi`` with more than one of them.

    Source: arXiv:2108.08782; stem, sizes and initialisation from the authors'
    code: normal with variance 2 / fan-out for the stem and the 3 x 3
    convolutions, torch's default for the 1 x 1 ones.
    """

    def __init__(
        self,
        depth: int = 18,
        *,
        split_stage: int = 2,
        in_channels: int = 3,
        base_channels: int = 64,
        out_indices: int | Sequence[int] = (3,),
        multi: bool = False,
        gate: dict = dict(type='mmea.CBAMGate2d'),
        norm_cfg: dict = dict(type='BN'),
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        note = ' (there is no split form of deeper blocks)'
        check_choice('depth', depth, DEPTHS, note)
        check_positive(in_channels=in_channels, base_channels=base_channels)
        check_int(0, split_stage=split_stage)
        check_flags(multi=multi, norm_eval=norm_eval)
        check_config(gate=gate, norm_cfg=norm_cfg)
        out_indices = check_indices(out_indices)
        self.out_indices = sorted(set(out_indices))
        if (
            not self.out_indices
            or len(self.out_indices) < len(out_indices)
            or not 0 <= self.out_indices[0] <= self.out_indices[-1] <= 3
        ):
            raise ValueError(
                'out_indices must name stages of 0..3, each once, got '
                f'{out_indices=}'
            )
        if multi and len(self.out_indices) > 1:
            raise ValueError(
                'multi=True returns three maps of one stage, got '
                f'{out_indices=}'
            )
        last = self.out_indices[-1] + 1
        if not 1 <= split_stage <= last:
            raise ValueError(
                f'split_stage must be in 1..{last}, the stages that '
                f'{out_indices=} asks for, got {split_stage=}'
            )
        self.multi = multi
        self.norm_eval = norm_eval
        self.conv1 = nn.Conv2d(
            in_channels, base_channels, 7, stride=2, padding=3, bias=False
        )
        self.bn1 = build_norm_layer(norm_cfg, base_channels)[1]
        self.stage_names = []
        width = base_channels
        for stage in range(1, last + 1):
            blocks = []
            for i in range(DEPTHS[depth][stage - 1]):
                # Stages count from 1, blocks from 0.
                place, split = (stage, i), (split_stage, 1)
                new = base_channels * 2 ** (stage - 1)
                blocks.append(
                    CaaMBlock(
                        width,
                        new,
                        stride=2 if stage > 1 and i == 0 else 1,
                        paths='one'
                        if place < split
                        else 'split'
                        if place == split
                        else 'two',
                        gate=gate,
                        norm_cfg=norm_cfg,
                    )
                )
                width = new
            self.add_module(f'layer{stage}', Sequential(*blocks))
            self.stage_names.append(f'layer{stage}')
        self.reset_parameters()

    def reset_parameters(self) -> None:
        blocks = [m for m in self.modules() if isinstance(m, CaaMBlock)]
        convs = [self.conv1]
        convs += [conv for b in blocks for conv in (b.conv1, b.conv2)]
        for conv in convs:
            nn.init.kaiming_normal_(
                conv.weight, mode='fan_out', nonlinearity='relu'
            )
        for block in blocks:
            if block.downsample is not None:
                block.downsample[0].reset_parameters()  # type: ignore[operator]

    def init_weights(self) -> None:
        # A second call must not undo what init_cfg has loaded.
        if not self.is_init:
            self.reset_parameters()
        super().init_weights()

    def train(self, mode: bool = True) -> 'CaaMResNet':
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        outs = []
        for i, name in enumerate(self.stage_names):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x if isinstance(x, Tensor) else x[0])
        return tuple(x) if self.multi else tuple(outs)
