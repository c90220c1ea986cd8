"""Train EAMLP's demo as published, and with what might help it to learn.

    OMP_NUM_THREADS=1 python -m benchmarks.eamlp --out work_dirs/eamlp

The demo's own config has a stem of convolutions, larger initial weights and
the mean of the tokens; here these are as published. Each case of CASES is one
training, seed 0; every evaluation is a row of eamlp.csv in the folder. A case
that is there is not repeated.
"""

import argparse
import csv
import json
import statistics
from pathlib import Path

from mmcv.cnn.bricks.scale import LayerScale
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

import mmea
from mmea.demo import write_demo
from mmea.engine.config import load_config
from mmea.models import EAMLP
from mmea.registry import MODELS

CONFIG = mmea.config('eamlp/eamlp-7_8xb64_in1k-384.py')
FIELDS = ('case', 'iteration', 'top-1', 'loss')
PUBLISHED = {
    'model.backbone.stem': 'tokens_to_token',
    'model.backbone.init_cfg': None,
    'model.backbone.out_type': 'cls_token',
    'model.head.init_cfg.std': 0.02,
}


@MODELS.register_module()
class LayerScaleEAMLP(EAMLP):
    """Scale each branch by a learned factor a channel (arXiv:2103.17239)."""

    def __init__(self, *args, scale: float, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            block.ffn.gamma2 = LayerScale(self.embed_dims, scale=scale)
            block.attn.dropout_layer = nn.Sequential(
                LayerScale(self.embed_dims, scale=scale),
                block.attn.dropout_layer,
            )


def _augment(cfg: Config) -> None:
    """Take the augmentation that the config has without its demo."""
    full = load_config(CONFIG)
    steps = [step.to_dict() for step in full.train_dataloader.dataset.pipeline]
    for step in steps:
        if step['type'] == 'RandomResizedCrop':
            step['scale'] = 96
    cfg.train_dataloader.dataset.pipeline = steps
    cfg.model.train_cfg = full.model.train_cfg


def _scale_layers(cfg: Config, scale: float) -> None:
    cfg.model.backbone.update(type='mmea.LayerScaleEAMLP', scale=scale)


def _take_more_images(cfg: Config) -> None:
    """Ten times the images, the epochs as they are: a learning curve."""
    cfg.demo_scenes.num_train *= 10
    cfg.train_cfg.val_interval = 1


def _train_longer(cfg: Config) -> None:
    """As many iterations as with ten times the images."""
    epochs = 10 * cfg.train_cfg.max_epochs
    cfg.train_cfg.update(max_epochs=epochs, val_interval=10)
    cosine = cfg.param_scheduler[-1]
    cosine.update(end=epochs, T_max=epochs - cosine.begin)


CASES = {
    'published': lambda cfg: None,
    'published augmentation': _augment,
    'layer scale, 0.1': lambda cfg: _scale_layers(cfg, 0.1),
    'layer scale, 1': lambda cfg: _scale_layers(cfg, 1.0),
    'ten times the images': _take_more_images,
    'ten times the epochs': _train_longer,
}


def train(case: str, out: Path) -> list[dict]:
    """Train a case; one row of FIELDS for each evaluation."""
    cfg = load_config(CONFIG, demo=True, options=PUBLISHED)
    CASES[case](cfg)
    scenes = dict(cfg.demo_scenes)
    root = out / f'images-{scenes["num_train"]}'
    write_demo(scenes.pop('layout'), root, **scenes)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(root)
    cfg.work_dir = str(out / case.replace(' ', '_'))
    cfg.default_hooks.checkpoint.interval = -1
    # One of the same name would go on writing to the log of the case before.
    cfg.visualizer.name = case
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = next(Path(runner.log_dir).glob('vis_data/scalars.json'))
    rows, losses = [], []
    for line in map(json.loads, log.read_text().splitlines()):
        if 'loss' in line:
            losses.append(line['loss'])
            step = line['step']
            continue
        # Of the last eighth.
        part = losses[-max(1, len(losses) // 8) :]
        loss = round(statistics.mean(part), 3)
        values = (case, step, line['accuracy/top1'], loss)
        rows.append(dict(zip(FIELDS, values)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('cases', nargs='*', default=[*CASES], metavar='CASE')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    for case in args.cases:
        if case not in CASES:
            parser.error(f'{case!r} is none of {", ".join(CASES)}')
    path = args.out / 'eamlp.csv'
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(path.open())) if path.is_file() else []
    for case in args.cases:
        if case in {row['case'] for row in rows}:
            continue
        rows += train(case, args.out)
        with path.open('w', newline='') as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == '__main__':
    main()
