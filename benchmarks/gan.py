"""SAGAN with self-attention, with external attention and with none.

    python -m benchmarks.gan train DATA             # a folder for each class
    python -m benchmarks.gan cost                   # of the layers alone

``train`` appends a line to ``benchmarks/results/gan/runs.jsonl`` for each run
that is finished, and writes a grid beside it. Started again, it goes on where
it was. ``cost`` writes ``cost.csv`` there.
"""

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmea.files import whole
from mmea.gan import (
    ClassFolders,
    MobileNetV2Extractor,
    TrainedHereExtractor,
    draw_rows,
    frechet_distance,
    inception_score,
    sample_rows,
)
from mmea.layers import SAGANAttention2d, SAGANExternalAttention2d
from mmea.profiling import MODES, Step, count_parameters, profile_steps

OUT = Path(__file__).resolve().parent / 'results/gan'
MEMBERS = dict(
    none=None,
    self=dict(type='mmea.SAGANAttention2d'),
    external=dict(type='mmea.SAGANExternalAttention2d'),
)
BATCH = 100  # images at a time, where none is trained


def make_config(member: str, seed: int, args: argparse.Namespace) -> dict:
    nets = dict(
        num_classes=len(args.data.metainfo['classes']),
        base_channels=args.width,
        attention=MEMBERS[member],
    )
    adam = dict(type='Adam', lr=args.lr, betas=(0.0, 0.9))
    return dict(
        model=dict(
            type='mmea.GAN',
            generator=dict(type='mmea.SAGANGenerator', **nets),
            discriminator=dict(type='mmea.SAGANDiscriminator', **nets),
            seed=seed,
        ),
        train_dataloader=dict(
            dataset=dict(
                type='mmea.ClassFolders',
                data_root=args.root,
                img_size=32,
                flip=True,
            ),
            batch_size=args.batch_size,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', seed=seed),
        ),
        optim_wrapper=dict(
            constructor='mmea.GANOptimWrapperConstructor',
            generator=dict(optimizer=adam),
            discriminator=dict(optimizer=adam),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=args.iters),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=50),
            checkpoint=dict(
                type='CheckpointHook',
                interval=100,
                by_epoch=False,
                max_keep_ckpts=1,
                save_param_scheduler=False,
            ),
        ),
        custom_hooks=[dict(type='mmea.GANSampleHook', interval=500)],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=seed),
        default_scope='mmengine',
    )


def train(member: str, seed: int, args: argparse.Namespace) -> dict:
    """Train a member, or go on with it; what is to be told of it."""
    torch.manual_seed(seed)
    runner = Runner(
        **make_config(member, seed, args),
        # Other settings are another run.
        work_dir=f'{args.work_dir}/{member}-{seed}_{args.iters}x'
        f'{args.batch_size}_{args.width}_{args.lr:g}',
        experiment_name=f'{member}-{seed}-{time.time()}',
        resume=True,
    )
    clock = Clock()
    runner.register_hook(clock)
    model = runner.train().eval()
    classes = args.data.metainfo['classes']
    rows = sample_rows(model, range(len(classes)), 12, seed=0)
    with whole(args.out / f'{member}-{seed}.png') as part:
        draw_rows(rows, classes).savefig(part, dpi=120)
    return dict(
        # None if it was stopped after its last step.
        cpu_seconds_per_step=clock.steps
        and round(statistics.median(clock.steps), 3)
        or None,
        parameters=count_parameters(model),
        **measure(lambda places: make(model, args.data, places), args),
    )


class Clock(Hook):
    """Keep the seconds of CPU time of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def before_train_iter(self, *args, **kwargs) -> None:
        self.start = time.process_time()

    def after_train_iter(self, *args, **kwargs) -> None:
        self.steps.append(time.process_time() - self.start)


def make(model, data: ClassFolders, places: range) -> Tensor:
    """Make an image for each of some places, of the class that is there."""
    samples = [data[i]['data_samples'] for i in places]
    return torch.stack([s.pred_img for s in model(None, samples, 'predict')])


@torch.no_grad()
def measure(images, args: argparse.Namespace) -> dict[str, float]:
    """Measure images that stand in the places of the real ones.

    Args:
        images (Callable): Gives those of a range of places.
        args (Namespace): With the extractors and what they saw in real ones.
    """
    seen = look(images, range(len(args.data)), args.extractors)
    found = {
        f'frechet_distance_{name}': frechet_distance(args.real[name], feats)
        for name, (feats, _) in seen.items()
    }
    for name, (_, logits) in seen.items():
        probabilities = logits.double().softmax(1)
        score, _ = inception_score(probabilities, min(10, len(logits)))
        found[f'inception_score_{name}'] = score
    return {name: round(value, 4) for name, value in found.items()}


@torch.no_grad()
def look(images, places: range, extractors: dict) -> dict:
    """Features and logits of images, by the name of the extractor."""
    parts: dict[str, list] = {name: [] for name in extractors}
    for start in places[::BATCH]:
        batch = images(range(start, min(start + BATCH, places.stop)))
        for name, extractor in extractors.items():
            parts[name].append(extractor.see(batch))
    return {
        name: tuple(map(torch.cat, zip(*pairs)))
        for name, pairs in parts.items()
    }


def train_all(args: argparse.Namespace) -> None:
    path = args.out / 'runs.jsonl'
    settings = {k: getattr(args, k) for k in ('iters', 'width', 'batch_size')}
    settings['lr'] = args.lr
    done = []
    if path.exists():
        done = [json.loads(line) for line in path.read_text().splitlines()]
    wanted = [
        dict(member=member, seed=seed, **settings)
        for seed in args.seeds
        for member in args.members
    ]
    wanted = [
        run
        for run in wanted
        if not any(run.items() <= d.items() for d in done)
    ]
    if not wanted:
        return
    args.root, args.data = args.data, ClassFolders(args.data, 32)
    args.extractors = dict(trained_here=TrainedHereExtractor(args.data).eval())
    if args.weights:
        args.extractors['mobilenet_v2'] = MobileNetV2Extractor(
            args.weights, size=96
        ).eval()
    real = look(
        lambda i: torch.stack([args.data[k]['inputs'] for k in i]),
        range(len(args.data)),
        args.extractors,
    )
    args.real = {name: feats for name, (feats, _) in real.items()}
    halves = {
        name: frechet_distance(feats[::2], feats[1::2])
        for name, feats in args.real.items()
    }
    print(f'Half of the real images against the other half: {halves}')
    for run in wanted:
        line = json.dumps({**run, **train(run['member'], run['seed'], args)})
        print(line, flush=True)
        with path.open('a') as file:
            file.write(line + '\n')


def measure_cost(args: argparse.Namespace) -> None:
    """Measure both layers, on maps of the sizes."""
    layers = dict(self=SAGANAttention2d, external=SAGANExternalAttention2d)
    rows = []
    for size in args.sizes:
        x = torch.randn(1, args.channels, size, size)
        for mode in MODES:
            steps = {
                name: Step(layer(args.channels), x, mode=mode)
                for name, layer in layers.items()
            }
            for name, row in profile_steps(steps, rounds=9):
                row = dict(member=name, size=size, mode=mode) | row
                rows.append({'saved': '', **row})
                print(row, flush=True)
    with whole(args.out / 'cost.csv') as part, part.open('w') as file:
        writer = csv.DictWriter(file, sorted(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=OUT)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser('train')
    command.set_defaults(run=train_all)
    command.add_argument('data', help='CLASS/NAME.jpg, 32 x 32')
    command.add_argument('--members', nargs='+', default=list(MEMBERS))
    command.add_argument('--seeds', nargs='+', type=int, default=[0])
    command.add_argument('--iters', type=int, default=2000)
    command.add_argument('--width', type=int, default=12)
    command.add_argument('--batch-size', type=int, default=24)
    command.add_argument('--lr', type=float, default=5e-4)
    command.add_argument('--work-dir', default='work_dirs/gan')
    command.add_argument('--weights', help='of MobileNetV2, to measure by')
    command = commands.add_parser('cost')
    command.set_defaults(run=measure_cost)
    command.add_argument('--channels', type=int, default=256)
    command.add_argument('--sizes', nargs='+', type=int, default=[16, 32, 64])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    args.run(args)


if __name__ == '__main__':
    main()
