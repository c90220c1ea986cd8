"""Estimate what an epoch costs on 1 to 64 GPUs, from counts alone.

    python -m benchmarks.scaling

prints the tables of ``docs/scale.md``; nothing is trained or timed. The
options are what the estimate assumes of the machines.
"""

import argparse

import mmea
from mmea.complexity import complexity
from mmea.engine.config import load_config

#: Images with annotations, and the size that the net gets of one.
DATA = {
    'ADE20K': (20_210, (512, 512)),
    'COCO': (117_266, (800, 1344)),
}
CONFIGS = {
    'ADE20K': (
        'mobilenet_v2/ea_fpn_mobilenet-v2_4xb4-160k_ade20k-512x512.py',
        'ea_fpn_ade20k.py',
        'eanet/eanet_r50-d8_4xb4-160k_ade20k-512x512.py',
        'eanet/eanet_r101-d8_4xb4-160k_ade20k-512x512.py',
        'volo/volo-d1_upernet_4xb4-160k_ade20k-512x512.py',
        'elsa_swin/elsa-swin-t_upernet_4xb4-160k_ade20k-512x512.py',
    ),
    'COCO': (
        'mobilenet_v2/ea_mask-rcnn_mobilenet-v2_fpn_1x_coco.py',
        'retinanet/ea_retinanet_r50_fpn_1x_coco.py',
        'faster_rcnn/ea_faster-rcnn_r50_fpn_1x_coco.py',
        'mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco.py',
        'cascade_rcnn/ea_cascade-rcnn_r50_fpn_1x_coco.py',
        'elsa_swin/elsa-swin-t_mask-rcnn_fpn_1x_coco.py',
    ),
}
GPUS = (1, 2, 4, 8, 16, 32, 64)


def cost(name: str, data: str) -> dict[str, float]:
    """Count what a config's training costs, whoever computes it.

    Args:
        name (str): Of a config that mmea ships.
        data (str): Key of :data:`DATA`.

    Returns:
        dict[str, float]: batch, images for each GPU and step; parameters;
        step, FLOPs for an image; epoch, for all of them; gradients, bytes of
        a step; ddp and fsdp, bytes of weights, gradients and optimiser that a
        GPU holds alone, and that one of 8 does that share them.
    """
    images, size = DATA[data]
    cfg = load_config(mmea.config(name))
    found = complexity(cfg, size)
    # One MAC is two FLOPs; the backward pass does each product twice.
    step = 3 * 2 * found['macs']
    moments = 2 if 'Adam' in cfg.optim_wrapper.optimizer.type else 1
    frozen = found['parameters'] - found['trained']
    held = 4 * (found['trained'] * (2 + moments) + frozen)
    return dict(
        batch=cfg.train_dataloader.batch_size,
        parameters=found['parameters'],
        step=step,
        epoch=step * images,
        gradients=4 * found['trained'],
        ddp=held,
        # One unit: weights and gradients are whole while it computes.
        fsdp=held / 8 + 4 * (found['parameters'] + found['trained']),
    )


def hours(
    costs: dict[str, float], images: int, gpus: int, args: argparse.Namespace
) -> float:
    """Estimate an epoch by DDP, the exchange after the backward pass.

    A ring sends 2 (n - 1) / n times the gradients over each link: those within
    a machine, then those between machines.
    """

    def ring(members: int, rate: float) -> float:
        return 2 * (members - 1) / members * costs['gradients'] / rate

    inside = min(gpus, args.per_machine)
    step = (
        costs['batch'] * costs['step'] / (args.tflops * 1e12)
        + ring(inside, args.inside * 1e9)
        + ring(gpus // inside, args.between * 1e9)
    )
    return images / (gpus * costs['batch']) * step / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, default, what in (
        ('--tflops', 20.0, 'what a GPU does of them in a training, in 1e12/s'),
        ('--inside', 100.0, 'GB/s of a link within a machine'),
        ('--between', 10.0, 'GB/s between two machines'),
    ):
        parser.add_argument(option, type=float, default=default, help=what)
    parser.add_argument(
        '--per-machine', type=int, default=8, help='GPUs of one'
    )
    parser.add_argument('--only', nargs='+', help='parts of names of configs')
    args = parser.parse_args()
    for data, (images, size) in DATA.items():
        rows = {
            name: cost(name, data)
            for name in CONFIGS[data]
            if not args.only or any(part in name for part in args.only)
        }
        if not rows:
            continue
        print(f'\n{data}: {images:,} images of {size[0]} x {size[1]}\n')
        print(
            '| config | batch of a GPU | M parameters | GFLOPs an image | '
            'PFLOPs an epoch | MB exchanged a step | GB, DDP | GB, FSDP of 8 |'
        )
        print('|---|' + '---:|' * 7)
        for name, row in rows.items():
            print(
                f'| {_short(name)} | {row["batch"]} '
                f'| {row["parameters"] / 1e6:.1f} '
                f'| {row["step"] / 1e9:,.0f} | {row["epoch"] / 1e15:,.1f} '
                f'| {row["gradients"] / 1e6:,.0f} '
                f'| {row["ddp"] / 1e9:.2f} | {row["fsdp"] / 1e9:.2f} |'
            )
        print('\nEstimated minutes of an epoch on so many GPUs:\n')
        print('| config | ' + ' | '.join(map(str, GPUS)) + ' |')
        print('|---|' + '---:|' * len(GPUS))
        for name, row in rows.items():
            cells = (60 * hours(row, images, gpus, args) for gpus in GPUS)
            text = ' | '.join(
                f'{cell:,.0f}' if cell >= 10 else f'{cell:.2g}'
                for cell in cells
            )
            print(f'| {_short(name)} | {text} |')


def _short(name: str) -> str:
    return f'`{name.rpartition("/")[2].removesuffix(".py")}`'


if __name__ == '__main__':
    main()
