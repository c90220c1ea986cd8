"""The model card of a published folder."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmea.engine.data_checks.files import data_names

__all__ = ['read_metrics', 'write_card']

#: The task as the Hub names it, and how the package loads a model.
PACKAGES = dict(
    mmseg=(
        'image-segmentation',
        'from mmseg.apis import init_model\n\n'
        "model = init_model('{config}', '{pth}', device='cpu')",
    ),
    mmdet=(
        'object-detection',
        'from mmdet.apis import init_detector\n\n'
        "model = init_detector('{config}', '{pth}', device='cpu')",
    ),
    mmpretrain=(
        'image-classification',
        'from mmpretrain import get_model\n\n'
        "model = get_model('{config}', pretrained='{pth}', device='cpu')",
    ),
)

CARD = """\
---
{front}
---

# {name}

{model}, trained with mmea on {dataset}, {number} classes.

| | |
|---|---|
{facts}

## Load

```python
import mmea

model = mmea.load('FOLDER')  # of these files
result = model.predict('image.jpg')
```

{package}

## Files

{files}

## Classes

{classes}
"""


def write_card(
    cfg: Config,
    published: Config,
    meta: dict,
    *,
    name: str,
    checkpoint_meta: dict,
    metrics: dict[str, float],
    hashes: dict[str, str],
    half: bool,
    license: str | None,
) -> str:
    """Write the text of a model card.

    Args:
        cfg (Config): Of the training.
        published (Config): Of :func:`.config.published_config`.
        meta (dict): Of :func:`.config.plain_meta`.
        name (str): Of the model.
        checkpoint_meta (dict): The checkpoint's ``meta``.
        metrics (dict): Of :func:`read_metrics`.
        hashes (dict): Names of the weights' files, and their sha256.
        half (bool): Whether the weights are float16.
        license (str | None): Its identifier.

    Returns:
        str: Markdown.
    """
    scope = cfg.default_scope
    task, example = PACKAGES.get(scope, ('other', ''))
    (pth,) = (file for file in hashes if file.endswith('.pth'))
    front = dict(
        license=license, library_name='mmea', pipeline_tag=task, tags=[scope]
    )
    classes = meta.get('classes') or ()
    facts = {
        'schedule of the config': _schedule(cfg),
        'checkpoint': _progress(checkpoint_meta),
        'seed': checkpoint_meta.get('seed'),
        'measured by': ' and '.join(_evaluators(cfg)) if metrics else None,
        **{k: f'{v:g}' for k, v in metrics.items()},
        'weights': 'float16, measured before' if half else None,
        'licence': license or 'not given',
        'written with': _versions(scope),
    }
    loader = cfg.get('train_dataloader') or cfg.test_dataloader
    inner = published.model.get('model') or {}
    return CARD.format(
        front='\n'.join(
            f'{key}: {json.dumps(value) if key == "tags" else value}'
            for key, value in front.items()
            if value
        ),
        name=name,
        model=inner.get('type') or published.model.type,
        dataset=' and '.join(data_names(loader['dataset'])),
        number=len(classes),
        facts='\n'.join(
            f'| {key} | {value} |'
            for key, value in facts.items()
            if value is not None
        ),
        package=_package_example(scope, example, f'{name}.py', pth),
        files='\n'.join(
            ['| file | sha256 |', '|---|---|']
            + [f'| {file} | `{sha}` |' for file, sha in hashes.items()]
        ),
        classes=', '.join(map(str, classes)),
    )


def read_metrics(folder: Path, cfg: Config, meta: dict) -> dict[str, float]:
    """Read the validation that a training logged with a checkpoint.

    Args:
        folder (Path): Of the checkpoint: runs are in it, as
            ``TIME/vis_data/scalars.json``.
        cfg (Config): Of the training; its logger counts in epochs or
            iterations.
        meta (dict): The checkpoint's.

    Returns:
        dict[str, float]: Empty where none was logged with it, or more than
        one that it could be.
    """
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    by_epoch = logger.get('log_metric_by_epoch', True)
    step = meta.get('epoch' if by_epoch else 'iter')
    paths = sorted(folder.glob('*/vis_data/scalars.json'), reverse=True)
    # A checkpoint knows its run, whose name ends in the time of its start.
    experiment = meta.get('experiment_name') or ''
    own = [p for p in paths if experiment.endswith(p.parents[1].name)]
    for path in own or ([] if experiment else paths):
        found = [
            record
            for line in path.read_text(encoding='utf-8').splitlines()
            # A run that was killed may leave half a line.
            if (record := _parse(line)).get('step') == step
            # Those of the training have a learning rate.
            and not {'lr', 'loss', 'iter'} & record.keys()
        ]
        if found:
            times = ('data_time', 'step', 'time')
            return (
                {k: v for k, v in found[0].items() if k not in times}
                if len(found) == 1
                else {}
            )
    return {}


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _evaluators(cfg: Config) -> list[str]:
    found = cfg.get('val_evaluator') or []
    parts = [found] if isinstance(found, dict) else found
    kinds = [part['type'] for part in parts]
    return [getattr(kind, '__name__', str(kind)) for kind in kinds]


def _schedule(cfg: Config) -> str | None:
    train = cfg.get('train_cfg') or {}
    parts = [
        f'{train[f"max_{unit}"]} {word}'
        for unit, word in (('iters', 'iterations'), ('epochs', 'epochs'))
        if train.get(f'max_{unit}')
    ]
    if size := (cfg.get('train_dataloader') or {}).get('batch_size'):
        parts.append(f'{size} images a process and step')
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if optimizer:
        kind = optimizer['type']
        parts.append(str(getattr(kind, '__name__', kind)))
        if 'lr' in optimizer:
            parts[-1] += f' of rate {optimizer["lr"]:g}'
    return ', '.join(parts) or None


def _progress(meta: dict) -> str | None:
    done = [f'{key} {meta[key]}' for key in ('epoch', 'iter') if meta.get(key)]
    return ', '.join(done) or None


def _versions(scope: str) -> str:
    names = dict.fromkeys(['torch', 'mmengine', 'mmcv', scope, 'mmea'])
    return ', '.join(f'{n} {import_module(n).__version__}' for n in names)


def _package_example(scope: str, example: str, config: str, pth: str) -> str:
    if not example:
        return ''
    code = example.format(config=config, pth=pth)
    return (
        f'or by {scope} itself:\n\n```python\n'
        f'import mmea  # its parts and ops\n{code}\n```'
    )
