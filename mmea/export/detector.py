"""Detectors of mmdet: one stage as a whole, two up to the proposals."""

from typing import Any

import torch
import torchvision  # noqa: F401, its ops
from mmdet.models.dense_heads import AnchorHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmdet.structures import DetDataSample
from torch import Tensor

from mmea.errors import UserError

from .graph import TOLERANCE, Graph, distance, samples
from .images import to_stack

__all__ = ['AnchorGraph', 'ProposalGraph']


class AnchorGraph(Graph):
    """A detector of one stage with anchors, such as RetinaNet.

    Args:
        model (nn.Module): A SingleStageDetector whose head is decoded as
            mmdet's AnchorHead is.

    Shapes:
        One image (1, C, H, W) to ``boxes`` (N, 4), x1, y1, x2, y2 in its
        pixels, ``scores`` (N), best first, and ``labels`` (N), int64.

    Raises:
        UserError: The head is decoded in another way.
    """

    task = 'object detection'
    names = ('boxes', 'scores', 'labels')
    batches = False
    score_thr: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        head: Any = model.bbox_head
        _check_head(head)
        cfg = head.test_cfg
        self.cfg = cfg
        # A tensor, which the check of a written graph can set to 0: a
        # threshold may leave no box to compare.
        self.register_buffer(
            'score_thr', torch.tensor(cfg.get('score_thr', 0.0))
        )

    def compute(self, x: Tensor, height: int, width: int) -> tuple:
        head: Any = self.model.bbox_head
        scores, deltas = head(self.model.extract_feat(x))
        priors = head.prior_generator.grid_priors(
            [level.shape[-2:] for level in scores], x.dtype, x.device
        )
        found = [
            self._best(*level, (height, width))
            for level in zip(scores, deltas, priors)
        ]
        return self._suppress(*map(torch.cat, zip(*found)))

    def _best(
        self, scores: Tensor, deltas: Tensor, priors: Tensor, size: tuple
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode the best boxes of a level, ``nms_pre`` at most."""
        head: Any = self.model.bbox_head
        number = head.cls_out_channels
        scores = scores[0].permute(1, 2, 0).reshape(-1, number)
        if head.use_sigmoid_cls:
            scores = scores.sigmoid()
        else:
            scores = scores.softmax(-1)[:, :-1]
            number -= 1
        scores = scores.flatten()
        keep = self.cfg.get('nms_pre', -1)
        if keep > 0:
            keep = torch.sym_min(keep, scores.shape[0])
            scores, order = scores.topk(keep)
        else:
            scores, order = scores.sort(descending=True)
        place = order // number
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)[place]
        boxes = head.bbox_coder.decode(priors[place], deltas, max_shape=size)
        return boxes, scores, order % number

    def _suppress(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple:
        valid = scores > self.score_thr
        smallest = self.cfg.get('min_bbox_size', -1)
        if smallest >= 0:
            valid &= ((boxes[:, 2:] - boxes[:, :2]) > smallest).all(1)
        # The span of all boxes, for there may be no valid one.
        span = boxes.max() + 1
        valid = valid.nonzero()[:, 0]
        boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
        nms = self.cfg.nms
        moved = boxes
        if not nms.get('class_agnostic', False):
            # Boxes of two classes never meet.
            moved = boxes + (labels * span)[:, None]
        keep = torch.ops.torchvision.nms(moved, scores, nms.iou_threshold)
        keep = keep[: self.cfg.max_per_img]
        return boxes[keep], scores[keep], labels[keep]

    @staticmethod
    def predict(model: Any, image: Tensor) -> tuple[Tensor, ...]:
        head: Any = model.bbox_head
        kept = head.test_cfg.get('score_thr', 0.0)
        head.test_cfg.score_thr = 0.0
        try:
            found = model.test_step(
                dict(
                    inputs=to_stack(image),
                    data_samples=samples(
                        DetDataSample, image, scale_factor=(1.0, 1.0)
                    ),
                )
            )[0].pred_instances
        finally:
            head.test_cfg.score_thr = kept
        return found.bboxes, found.scores, found.labels

    def compare(self, got: list[Tensor], want: tuple[Tensor, ...]) -> str:
        boxes, scores, labels = got
        if problem := distance('scores', scores, want[1]):
            return problem
        # Boxes of nearly one score may change places, or at the end be others.
        partner = (
            (labels[:, None] == want[2])
            & ((scores[:, None] - want[1]).abs() < TOLERANCE)
            & ((boxes[:, None] - want[0]).abs().amax(2) < 0.1)
        ).any(0)
        missing = int((~partner).sum())
        if missing > len(partner) // 50 + 1:
            return f'{missing} of {len(partner)} boxes are others'
        return ''


def _check_head(head: Any) -> None:
    kind = type(head)
    nms = head.test_cfg.get('nms') or {}
    own = [
        name
        for name in ('predict_by_feat', '_predict_by_feat_single')
        if getattr(kind, name) is not getattr(BaseDenseHead, name)
    ]
    if not isinstance(head, AnchorHead):
        reason = 'has no anchors'
    elif own:
        reason = f'has a {own[0]}() of its own'
    elif type(head.prior_generator) is not AnchorGenerator:
        reason = f'has a {type(head.prior_generator).__name__}'
    elif type(head.bbox_coder) is not DeltaXYWHBBoxCoder:
        reason = f'has a {type(head.bbox_coder).__name__}'
    elif getattr(head.loss_cls, 'custom_cls_channels', False):
        reason = f'takes its scores from {type(head.loss_cls).__name__}'
    elif nms.get('type', 'nms') != 'nms' or 'iou_threshold' not in nms:
        reason = f'has test_cfg.nms={dict(nms)}, not type nms'
    else:
        return
    raise UserError(
        f'cannot export the head {kind.__name__}: it {reason}; of detectors '
        'of one stage those like RetinaNet are exported'
    )


class ProposalGraph(Graph):
    """Backbone, neck and RPN head of a detector of two stages.

    Args:
        model (nn.Module): A TwoStageDetector.

    Shapes:
        Images (B, C, H, W) to, for each level i, ``feat{i}`` (B, C, h, w);
        then ``rpn_scores{i}`` (B, A, h, w), logits, and ``rpn_deltas{i}``
        (B, 4 A, h, w), of A anchors. h and w are those of the padded image.
    """

    task = 'region proposals'
    note = (
        'of two stages only backbone, neck and RPN head are exported; '
        'proposals and RoI heads are not in the file'
    )

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        with torch.no_grad():
            image = torch.zeros(1, self.channels, 64, 64)
            feats, scores, deltas = _run(self.model, self.images(image))
        self.names = tuple(
            f'{name}{i}'
            for name, levels in (
                ('feat', feats),
                ('rpn_scores', scores),
                ('rpn_deltas', deltas),
            )
            for i in range(len(levels))
        )

    def compute(self, x: Tensor, height: int, width: int) -> tuple:
        return tuple(y for levels in _run(self.model, x) for y in levels)

    @staticmethod
    def predict(model: Any, image: Tensor) -> tuple[Tensor, ...]:
        data = model.data_preprocessor(
            dict(
                inputs=to_stack(image),
                data_samples=samples(DetDataSample, image),
            )
        )
        outs = _run(model, data['inputs'])
        return tuple(y for levels in outs for y in levels)

    def compare(self, got: list[Tensor], want: tuple[Tensor, ...]) -> str:
        for name, a, b in zip(self.names, got, want):
            # Maps have no range of their own, as probabilities have.
            limit = TOLERANCE * max(1.0, b.abs().max().item())
            if problem := distance(name, a, b, limit):
                return problem
        return ''


def _run(model: Any, x: Tensor) -> tuple:
    feats = model.extract_feat(x)
    return (feats, *model.rpn_head(feats))
