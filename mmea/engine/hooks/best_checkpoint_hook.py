from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import METRICS
from mmengine.runner import Runner

from mmea.registry import HOOKS

__all__ = ['BestCheckpointHook', 'keep_best']


@HOOKS.register_module()
class BestCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, which survives a validation without a score.

    A detector that finds nothing at all, as many do in the beginning, has no
    AP, and mmengine's ``save_best`` ends the training. A run of constant rates
    saves no scheduler, without mmengine's warning at each checkpoint.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if runner.param_schedulers is None:
            self.save_param_scheduler = False

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        keys = self.key_indicators if self.save_best else []
        lacking = [k for k in keys if k not in ('auto', *metrics)]
        if lacking or (keys and not metrics):
            runner.logger.info(
                f'No {" or ".join(lacking or keys)} in this validation: the '
                'best checkpoint stays'
            )
            return
        super()._save_best_checkpoint(runner, metrics)


def keep_best(cfg: Config) -> None:
    """Have the best checkpoint kept, by the metric of the task. In place.

    That is mIoU, the AP of masks, else of boxes, or the top-1 accuracy, of
    clouds the overall accuracy or the mIoU of parts over clouds; a config
    with other metrics, or its own ``save_best``, is left alone.

    Args:
        cfg (Config): The whole config.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('type') != 'CheckpointHook' or not cfg.get('val_evaluator'):
        return
    hook['type'] = 'mmea.BestCheckpointHook'
    if 'save_best' in hook:
        return
    metrics = cfg.val_evaluator
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        key = _key(metric, cfg.get('default_scope'))
        if key:
            hook.update(save_best=key, rule='greater')
            return


def _key(metric: dict, scope: str | None) -> str | None:
    """Name what a metric of a known type gives, None for all others."""
    if metric.get('format_only') or 'prefix' in metric:
        return None
    cls: Any = metric.get('type')
    if isinstance(cls, str):
        with METRICS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(cls)
    kinds = {base.__name__ for base in getattr(cls, '__mro__', ())}
    if 'IoUMetric' in kinds:
        return 'mIoU' if 'mIoU' in metric.get('iou_metrics', 'mIoU') else None
    if 'PointAccuracyMetric' in kinds:
        return 'accuracy/overall'
    if 'PartIoUMetric' in kinds:
        return 'parts/instance_mIoU'
    if 'CocoMetric' in kinds and cls.default_prefix == 'coco':
        wanted = metric.get('metric', 'bbox')
        found = [kind for kind in ('segm', 'bbox') if kind in wanted]
        return f'coco/{found[0]}_mAP' if found else None
    if 'Accuracy' in kinds and not metric.get('thrs'):
        topk = metric.get('topk', (1,))
        wanted = topk if isinstance(topk, (list, tuple)) else (topk,)
        return 'accuracy/top1' if 1 in wanted else None
    return None
