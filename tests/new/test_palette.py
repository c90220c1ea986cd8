import cv2
import numpy as np

from mmea.new.palette import make_palette


def test_sixty_classes_can_be_told_apart():
    palette = make_palette(60)
    assert palette[0] == (0, 0, 0)
    assert palette[:9] == make_palette(9)
    assert make_palette(60)[1:] == make_palette(59, background=False)
    rgb = np.float32([palette]) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[0]
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    # tab20 has two at 17, VOC's colour map of 60 two at 6.
    assert apart[~np.eye(60, dtype=bool)].min() > 25
    bright = make_palette(60, background=False)
    assert not {(0, 0, 0), (255, 255, 255)} & {*bright}


def test_few_and_none():
    assert make_palette(1) == [(0, 0, 0)]
    assert len({*make_palette(300)}) == 300
    assert all(type(value) is int for value in make_palette(2)[1])
