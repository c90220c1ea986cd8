"""mmea's loaders in the place of the stack's, and no labels where none are.

Configs name the loaders of the stack, because its own ways to predict
(``MMSegInferencer``, ``inference_detector``, ...) look for them by name. The
data loaders of a Runner get mmea's, whose errors name file and way out; the
config that it writes down keeps the names.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS, Registry
from mmengine.runner import Runner

from mmea.engine.data_checks import has_labels

__all__ = ['guard_dataset', 'guard_loaders', 'guard_pipeline']

#: By the class that a name stands for: a user's own class is never replaced,
#: however it is named. mmdet's LoadAnnotations is another, and stays.
LABELS = 'mmea.LoadSegAnnotations'
GUARDED = {
    'mmcv.transforms.loading.LoadImageFromFile': 'mmea.LoadImage',
    'mmseg.datasets.transforms.loading.LoadAnnotations': LABELS,
    'mmea.datasets.load_seg_annotations.LoadSegAnnotations': LABELS,
}
NAMES = {name.rpartition('.')[2] for name in GUARDED}


def guard_loaders(runner: Runner, cfg: Config) -> None:
    """Put mmea's loaders into all pipelines of a Runner's data loaders.

    They keep the arguments of those that they replace; that of labels gets
    its data set's ``ignore_index``. Where nothing is compared with labels
    they are not loaded.

    Args:
        runner (Runner): Freshly built, with data loaders that are not.
        cfg (Config): What it was built from.
    """
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        # Not those of runner.cfg, which is another copy.
        loader = getattr(runner, f'_{key}', None)
        if isinstance(loader, dict) and 'dataset' in loader:
            loader['dataset'] = guard_dataset(
                loader['dataset'],
                cfg.get('default_scope'),
                labels=has_labels(cfg, key),
            )


def guard_pipeline(pipeline: Sequence[dict], scope: str) -> list[dict]:
    """Copy a pipeline with mmea's loader of images, and none of labels.

    Args:
        pipeline (Sequence[dict]): Configs of transforms.
        scope (str): Of the config that they come from.
    """
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        return list(_guard(list(pipeline), registry, False, {}))


def guard_dataset(
    dataset: dict, scope: str | None, *, labels: bool = True
) -> dict:
    """Copy the config of a data set with mmea's loaders.

    Args:
        dataset (dict): Such as ``cfg.val_dataloader.dataset``.
        scope (str | None): Of the config that it comes from.
        labels (bool): Whether labels are loaded. Default: True.
    """
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        return _guard(dataset, registry, labels, {})


def _guard(
    node: Any, registry: Registry, keep_labels: bool, data: dict
) -> Any:
    """Copy a part of a config with other loaders; None for one left out."""
    if isinstance(node, (list, tuple)):
        parts = [_guard(part, registry, keep_labels, data) for part in node]
        kept = [part for part in parts if part is not None]
        # A branch of TestTimeAug that only loaded labels.
        if not kept and parts:
            return None
        return type(node)(kept)
    if not isinstance(node, dict):
        return node
    if 'pipeline' in node:
        data = node
    guard = GUARDED.get(_full_name(node.get('type'), registry))
    if guard == LABELS and not keep_labels:
        return None
    node = ConfigDict(
        {
            key: _guard(value, registry, keep_labels, data)
            for key, value in node.items()
        }
    )
    if guard:
        node['type'] = guard
    if guard == LABELS and 'ignore_index' in data:
        node.setdefault('ignore_index', data['ignore_index'])
    return node


def _full_name(type_: str | Callable | None, registry: Registry) -> str:
    """Tell where a loader's class is defined; '' for all other types."""
    cls: Any = type_
    if isinstance(type_, str):
        if type_.rpartition('.')[2] not in NAMES:
            return ''
        cls = registry.get(type_)
    if not isinstance(cls, type):
        return ''
    return f'{cls.__module__}.{cls.__qualname__}'
