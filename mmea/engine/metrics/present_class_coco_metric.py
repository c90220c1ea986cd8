from typing import Any

from mmdet.evaluation import CocoMetric

from mmea.registry import METRICS

__all__ = ['PresentClassCocoMetric']


@METRICS.register_module()
class PresentClassCocoMetric(CocoMetric):
    """mmdet's CocoMetric over the classes that the ground truth holds.

    A small data set has few of COCO's 80 classes: the table of each class
    (``classwise=True``) shows those. The mean is the same, as COCO's leaves
    out classes without ground truth.

    Args:
        kwargs: Of mmdet's CocoMetric.
    """

    cat_ids: Any

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.cat_ids = None  # of all classes; set anew
        return super().compute_metrics(results)

    def results2json(
        self, results: list, outfile_prefix: str
    ) -> dict[str, str]:
        files = super().results2json(results, outfile_prefix)
        # Now that labels have become category ids, cat_ids says only what is
        # evaluated.
        present = {a['category_id'] for a in self._coco_api.anns.values()}
        if present:
            self.cat_ids = [i for i in self.cat_ids if i in present]
        return files
