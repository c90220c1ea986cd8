"""What attention in PSMNet's cost volume costs: a training step, one pair.

    OMP_NUM_THREADS=1 python -m benchmarks.stereo

Seconds of the process and peak memory of a layer of 32 channels in volumes
D / 4 x H / 4 x W / 4, and of the residual block that stands in front of it.
What would take too long is not run; of those that compare each token with
each, the pairs in float32 are told.
"""

import torch
from torch import nn

from mmea.compare.report import markdown
from mmea.profiling import Step, profile_steps
from mmea.stereo import VolumeAttention
from mmea.stereo.blocks import conv_norm

CHANNELS = 32
# Of max_disp, height and width 32 x 64 x 128, 48 x 96 x 192, 96 x 128 x 256
# and 192 x 256 x 512, the published crop.
SIZES = ((8, 16, 32), (12, 24, 48), (24, 32, 64), (48, 64, 128))
LIMIT = 5  # seconds of a step
BLOCK = 'two 3D convolutions'
MEMBERS = (
    'ExternalAttention2d',
    'EfficientAttention2d',
    'LinearAttention2d',
    'NonLocal2d',
    'SelfAttention2d',
)
QUADRATIC = ('NonLocal2d', 'SelfAttention2d')


def make_step(name: str, size: tuple[int, int, int]) -> Step:
    torch.manual_seed(0)
    c = CHANNELS
    if name == BLOCK:
        module: nn.Module = nn.Sequential(
            conv_norm(3, c, c), conv_norm(3, c, c, relu=False)
        )
    else:
        cfg = dict(type=f'mmea.{name}', zero_init=False)
        module = VolumeAttention(cfg, c)
        module.quadratic = False  # the cost is what is measured here
    return Step(module, torch.randn(1, c, *size), mode='training')


def main() -> None:
    cells: dict[str, list[str]] = {name: [] for name in (BLOCK, *MEMBERS)}
    last: dict[str, tuple[int, float]] = {}
    for size in SIZES:
        tokens = torch.Size(size).numel()
        for name, row in cells.items():
            power = 2 if name in QUADRATIC else 1
            before, seconds = last.get(name, (tokens, 0.0))
            if seconds * (tokens / before) ** power > LIMIT:
                pairs = f'{tokens**2 * 4 / 2**30:.3g} GiB of pairs, '
                row.append(f'{pairs * (power == 2)}not run')
                continue
            steps = {name: make_step(name, size)}
            [(_, found)] = profile_steps(steps, rounds=3)
            last[name] = tokens, found['seconds']
            row.append(
                f'{found["seconds"]:.2g} s, {found["memory"] / 2**20:,.0f} MiB'
            )
            print(f'{name}, {tokens:,} tokens: {row[-1]}', flush=True)
    head = [' x '.join(map(str, size)) for size in SIZES]
    rows = [[f'`{name}`', *row] for name, row in cells.items()]
    print('\n'.join(markdown(['', *head], rows)))


if __name__ == '__main__':
    main()
