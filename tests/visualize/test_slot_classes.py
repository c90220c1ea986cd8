import numpy as np
import pytest
import torch

from mmea.maps import AttentionMaps
from mmea.visualize import SlotClasses, information


def test_information_of_joint_distributions():
    # Each slot is a class: one bit of one.
    assert information(np.eye(2) / 2) == pytest.approx((1, 1))
    # Slots that do not care: none.
    even = np.outer([0.25, 0.75], [0.5, 0.25, 0.25])
    assert information(even) == pytest.approx((0, 1.5))
    # By hand: 1/2 log2 (4/3) + 1/4 log2 (2/3) + 1/4 log2 2.
    joint = np.array([[0.5, 0.25], [0, 0.25]])
    want = 0.5 * np.log2(4 / 3) + 0.25 * np.log2(2 / 3) + 0.25
    assert information(joint) == pytest.approx((want, 1))


def test_slots_and_classes_are_counted_by_pixels():
    count = SlotClasses(3)
    # Two images of 1 x 3: slots by pixels.
    for slots, labels in (
        ([[1, 0.5, 0.25], [0, 0.5, 0.75]], [0, 0, 2]),
        ([[1, 0.0, 0.9], [0, 1.0, 0.1]], [2, 255, -1]),  # the last is padding
    ):
        attention = torch.tensor(slots)[None, :, None]
        count.add(AttentionMaps('X', attention), torch.tensor([labels]))
    # Slot 0: class 0 1.5, class 2 1.25; slot 1: 0.5, 0.75 and 1 of no class.
    joint = np.array([[1.5, 0, 1.25], [0.5, 0, 0.75]]) / 4
    np.testing.assert_allclose(count.joint, joint)
    np.testing.assert_allclose(count.shares, [2.75 / 5, 2.25 / 5])
    lift = count.lift
    np.testing.assert_allclose(lift[0, [0, 2]], [12 / 11, 10 / 11])
    assert np.isnan(lift[:, 1]).all()
    assert count.dead().tolist() == [False, False]
    assert count.dead(0.95).tolist() == [False, True]
