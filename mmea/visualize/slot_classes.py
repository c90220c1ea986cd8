"""Which slots answer to which classes, counted over labelled pixels."""

import numpy as np
from torch import Tensor

from mmea.maps import AttentionMaps

__all__ = ['SlotClasses', 'information']


class SlotClasses:
    """Count how slots and classes meet, pixel by pixel.

    Each pixel of a map shares out 1 to the slots, by its attention, and has
    one class, that of its label; together that is the joint distribution of a
    slot and a class.

    Args:
        num_classes (int): Labels from there on, or below 0, are of no class.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        #: Sums of attention, (S, classes and one column for those of none).
        self.sums: np.ndarray | None = None

    def add(self, maps: AttentionMaps, labels: Tensor) -> None:
        """Count an image.

        Args:
            maps (AttentionMaps): With slots, of one image.
            labels (Tensor): Ids of classes at the resolution of the maps,
                (H, W); -1 is padding, which is not counted at all.
        """
        slots = maps.slots[0].flatten(1).double().cpu()  # (S, N)
        labels = labels.flatten().cpu().long()
        image = labels != -1
        slots, labels = slots[:, image], labels[image]
        none = (labels < 0) | (labels >= self.num_classes)
        labels = labels.masked_fill(none, self.num_classes)
        sums = slots.new_zeros(len(slots), self.num_classes + 1)
        sums.index_add_(1, labels, slots)
        self.sums = sums.numpy() + (0 if self.sums is None else self.sums)

    @property
    def shares(self) -> np.ndarray:
        """The share of each slot (S), labelled pixels and others."""
        assert self.sums is not None
        return self.sums.sum(1) / max(self.sums.sum(), 1e-12)

    def dead(self, threshold: float = 0.01) -> np.ndarray:
        """See :meth:`mmea.maps.AttentionMaps.dead`; over all images."""
        return self.shares < threshold / len(self.shares)

    @property
    def joint(self) -> np.ndarray:
        """The joint distribution of slot and class, (S, classes)."""
        assert self.sums is not None
        joint = self.sums[:, :-1]
        return joint / max(joint.sum(), 1e-12)

    @property
    def lift(self) -> np.ndarray:
        """How much more a class's pixels read a slot than all do (S, classes).

        p(slot, class) / (p(slot) p(class)): 1 where they do not care for each
        other, NaN where one of them does not occur.
        """
        return _lift(self.joint)


def information(joint: np.ndarray) -> tuple[float, float]:
    """Measure how much two variables tell of each other.

    Args:
        joint (np.ndarray): Their joint distribution, (slots, classes); sums
            to 1.

    Returns:
        tuple[float, float]: The mutual information, the sum of p(s, c)
        log2 p(s, c) / (p(s) p(c)), and the entropy of the class, which it
        cannot exceed, both in bits.
    """
    classes = joint.sum(0)
    met = joint > 0
    mutual = (joint[met] * np.log2(_lift(joint)[met])).sum()
    present = classes[classes > 0]
    entropy = -(present * np.log2(present)).sum()
    # Sums that are 0 may round to less, and -0.
    return max(float(mutual), 0.0), max(float(entropy), 0.0)


def _lift(joint: np.ndarray) -> np.ndarray:
    even = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return np.divide(
        joint, even, out=np.full_like(joint, np.nan), where=even > 0
    )
