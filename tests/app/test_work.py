"""What the buttons of the page do, without the page."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import mmea
from mmea import app
from mmea.engine.drawing import draw_class, draw_instances, draw_labels
from mmea.errors import UserError

from ..visualize.test_view import make_predictor

PATH = 'data/images/training/0.jpg'
LAYER = 'decode_head.attention'
NECK = 'neck.1.attentions'


def test_shares_of_classes(segmentor):
    found = app.predict(segmentor, PATH)
    assert 'seg_logits' not in found.sample
    photo = cv2.imread(PATH)[..., ::-1]
    assert np.array_equal(found.picture, photo)
    labels = segmentor.predict(PATH).pred_sem_seg.data[0].numpy()
    drawn, rows = app.draw(segmentor, found)
    assert np.array_equal(drawn, draw_labels(photo, labels, segmentor.meta))
    assert len(rows) > 1
    shares = [share for _, share in rows]
    assert shares == sorted(shares, reverse=True)
    for name, share in rows:
        want = (labels == segmentor.classes.index(name)).mean()
        assert share == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(('threshold', 'left'), [(0.3, [2, 0]), (0.9, [])])
def test_boxes(detected, threshold, left):
    model, found = detected
    drawn, rows = app.draw(model, found, threshold)
    all_rows = [
        ('cat', 0.4, 1, 2, 10, 20), ('dog', 0.1, 0, 0, 5, 5),
        ('dog', 0.8, 3, 4, 30, 10),
    ]  # fmt: skip
    assert rows == [all_rows[i] for i in left]
    kept = found.sample.pred_instances[torch.tensor(left[::-1]).long()]
    want = draw_instances(found.picture, kept, model.meta, opacity=0.5)
    assert np.array_equal(drawn, want)


def test_likeliest_classes():
    structures = pytest.importorskip('mmpretrain.structures')
    scores = torch.tensor([0.1, 0.6, 0.3])
    sample = structures.DataSample().set_pred_score(scores).set_pred_label(1)
    found = app.Found('a.jpg', np.zeros((64, 80, 3), np.uint8), sample)
    classes = ('a', 'b', 'c')
    model = SimpleNamespace(meta=dict(classes=classes))
    drawn, rows = app.draw(model, found)
    assert rows == [('b', 0.6), ('c', 0.3), ('a', 0.1)]
    assert np.array_equal(drawn, draw_class(found.picture, sample, classes))


def test_maps_of_a_pixel(segmentor):
    looked = app.look_at(segmentor, PATH, pixel=(44, 3))
    assert list(looked.layers) == [f'{NECK}.0', f'{NECK}.1', LAYER]
    assert (looked.first, looked.left_out) == (LAYER, [])
    row, column = (3 + 0.5) / 32, (44 + 0.5) / 48
    (want,) = mmea.attention_maps(
        segmentor.model, PATH, forward=segmentor.predict, pixel=(row, column)
    )[LAYER]
    torch.testing.assert_close(looked.layers[LAYER].reads, want.reads)
    pages = [
        app.draw_layer(view, LAYER)
        for view in (looked, app.look_at(segmentor, PATH, layers=[LAYER]))
    ]
    assert pages[0].shape == pages[1].shape
    assert pages[0].shape[1] == 1200
    changed = (pages[0] != pages[1]).any(2)
    # The mark in the photograph, what the pixel reads; no slot, no chart.
    assert 0.01 < changed.mean() < 0.1


def test_begins_with_the_first_call(project):
    predictor = make_predictor([])
    once = predictor.model.forward
    predictor.model.forward = lambda **data: [once(**data), once(**data)]
    looked = app.look_at(predictor, PATH)
    assert list(looked.layers) == ['attention', 'attention, call 2']
    assert looked.first == 'attention'


def test_what_cannot_be_done(segmentor):
    Path('photos').mkdir()
    Path('photos/bad.jpg').write_bytes(b'no picture')
    for work in (app.predict, app.look_at):
        with pytest.raises(UserError) as error:
            work(segmentor, 'photos/bad.jpg')
        assert str(error.value) == (
            'cannot decode the image bad.jpg (cv2 reads nothing from it)'
        )
    words = r'^pixel 48 3: the net sees x from 0 to 47 and y from 0 to 31'
    with pytest.raises(UserError, match=words):
        app.look_at(segmentor, PATH, pixel=(48, 3))
    segmentor.model.backbone.forward = lambda x: x[:, :, :0]
    with pytest.raises(UserError, match='^the model cannot take 0.jpg: '):
        app.predict(segmentor, PATH)


def test_layers(segmentor):
    assert app.check_layers(segmentor)
    assert app.check_layers(segmentor, [LAYER])
    with pytest.raises(UserError, match='--layers attn: no such attention'):
        app.check_layers(segmentor, [LAYER, 'attn'])
    segmentor.model = nn.Conv2d(3, 3, 1)
    assert not app.check_layers(segmentor)
    with pytest.raises(UserError, match='has no attention layer of mmea'):
        app.check_layers(segmentor, [LAYER])
