"""Pictures of clouds: what they show, the figure, the page that turns."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image

pytest.importorskip('mmcv')

from mmea.point_clouds import CloudPictureHook
from mmea.point_clouds.drawing import make_figure, make_page
from mmea.point_clouds.views import COLOURS, OTHER, RIGHT, WRONG, view_of

CLOUD = np.array([[0, 0, 0, 9], [2, 0, 0, 9], [0, 1, 4, 9], [1, 1, 1, 9]])
META = dict(
    classes=('mug', 'lamp'),
    parts=((0, 1), (2, 3, 4)),
    part_names=dict(lamp=['foot', '</script>']),
)


def parts(truth, found, **kwargs):
    sample = BaseDataElement(gt_label=torch.tensor([1]))
    sample.pred_parts = torch.tensor(found)
    if truth:
        sample.gt_parts = torch.tensor(truth)
    return view_of(CLOUD, sample, META, **kwargs)


def named(truth, found, score):
    sample = BaseDataElement(pred_label=torch.tensor([found]))
    sample.pred_score = torch.tensor(score)
    if truth is not None:
        sample.gt_label = torch.tensor([truth])
    return view_of(CLOUD, sample, META)


def test_parts():
    view = parts([2, 2, 4, 4], [2, 0, 4, 4])
    assert (view.title, view.verdict) == ('lamp', 'IoU 83%')  # 1/2, 1, 1
    # The second part is not to be seen, and one point is of a mug.
    names, colours = zip(*view.legend)
    assert names == ('foot', 'part 3', 'of another class')
    assert colours == (COLOURS[0], COLOURS[2], OTHER)
    assert view.panels['truth'].tolist() == [0, 0, 1, 1]
    assert view.panels['prediction'].tolist() == [0, 2, 1, 1]
    assert list(parts(None, [2, 3, 3, 3]).panels) == ['prediction']


def test_where_the_points_are():
    points = parts(None, [2] * 4).points
    radius = np.linalg.norm([1, 0.5, 2])
    want = np.array(
        [[-1, -0.5, -2], [1, -0.5, -2], [-1, 0.5, 2], [0, 0.5, -1]]
    )
    assert points == pytest.approx(want / radius)
    turned = parts(None, [2] * 4, up='y').points
    assert turned == pytest.approx(want[:, [0, 2, 1]] * [1, -1, 1] / radius)
    one_place = view_of(np.ones((4, 3)), _sample(0, False), {})
    assert one_place.title == 'class 0 100%' and not one_place.points.any()


def test_classes():
    view = named(0, 0, [0.75, 0.25])
    assert (view.title, view.verdict) == ('mug', 'mug 75%')
    assert view.legend == [('right', RIGHT)]
    view = named(0, 1, [0.25, 0.75])
    assert (view.title, view.verdict) == ('mug', 'taken for lamp 75%')
    assert view.legend == [('wrong', WRONG)]
    assert named(None, 1, [0.25, 0.75]).title == 'lamp 75%'


def test_figure(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'mpl_toolkits.mplot3d.Axes3D.scatter',
        lambda _, *xyz, c, **__: calls.append((np.stack(xyz, 1), c)),
    )
    view = parts([2, 2, 4, 4], [2, 0, 4, 4])
    figure = make_figure([view] * 4)
    subfigures = [f for f in figure.subfigs if f.axes]
    assert [len(f.axes) for f in subfigures] == [2] * 4
    for (points, colours), panel in zip(calls[6:], view.panels.values()):
        assert np.array_equal(points, view.points)
        assert colours == [view.legend[i][1] for i in panel]
    (legend,) = subfigures[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ['foot', 'part 3', 'of another class']


def test_page():
    view = parts([2, 2, 3, 3], [2, 0, 3, 3])
    page = make_page([view], 'a "<title>"', 'IoU 1')
    assert page.count('</script>') == 1 and '://' not in page
    (line,) = [x for x in page.splitlines() if x.startswith('const content')]
    assert '<' not in line
    found = json.loads(line.removeprefix('const content = ').rstrip(';'))
    assert (found['title'], found['told']) == ('a "<title>"', 'IoU 1')
    (shown,) = found['views']
    assert shown['legend'][1] == ['</script>', COLOURS[1]]
    assert shown['panels'] == dict(truth=[0, 0, 1, 1], prediction=[0, 2, 1, 1])
    assert np.array(shown['points']) == pytest.approx(
        1000 * view.points, abs=1
    )


def test_clouds_from_all_over_the_data_set(tmp_path):
    hook = CloudPictureHook(3, out_dir=str(tmp_path / 'shown'))
    said = []
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=_Set()),
        logger=SimpleNamespace(info=said.append),
        cfg=SimpleNamespace(filename='x/eat.py'),
        work_dir='nowhere',
    )
    for numbered in (True, False):
        hook.before_val_epoch(runner)
        for start in range(0, 9, 2):
            samples = [
                _sample(i, numbered) for i in range(start, min(start + 2, 9))
            ]
            clouds = [torch.full((4, 3), float(i)) for i in range(start, 9)]
            hook.after_val_iter(runner, 0, dict(inputs=clouds), samples)
        assert [cloud[0, 0] for cloud, _ in hook.found] == [0, 4, 8]
    hook.after_val_epoch(runner, dict(IoU=3.0))
    page = (tmp_path / 'shown/predictions.html').read_text()
    assert '"title":"eat","told":"IoU 3"' in page
    picture = Image.open(tmp_path / 'shown/predictions.png')
    # Three clouds of one panel in a row.
    assert picture.size == (936, 336)
    assert 'predictions.png' in said[0] and 'predictions.html' in said[0]
    for bad in (dict(num_clouds=0), dict(up='x')):
        with pytest.raises(ValueError, match=next(iter(bad))):
            CloudPictureHook(**bad)


class _Set:
    metainfo = META

    def __len__(self):
        return 9


def _sample(i, numbered):
    sample = BaseDataElement(
        pred_label=torch.tensor([0]), pred_score=torch.ones(1)
    )
    if numbered:
        sample.set_metainfo(dict(sample_idx=i))
    return sample


def test_a_cloud_turns(browser, tmp_path):
    file = tmp_path / 'page.html'
    file.write_text(make_page([parts([2, 2, 3, 3], [2, 0, 3, 3])], 'a', 'b'))
    page = browser.new_page()
    faults = []
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.goto(file.as_uri())
    canvas = page.locator('canvas').nth(1)
    shots = [canvas.screenshot()]
    box = canvas.bounding_box()
    page.mouse.move(box['x'] + 20, box['y'] + 20)
    page.mouse.down()
    page.mouse.move(box['x'] + 90, box['y'] + 20)
    page.mouse.up()
    shots.append(canvas.screenshot())
    canvas.dblclick()
    assert shots[0] != shots[1]
    assert page.locator('li').all_inner_texts() == [
        'foot',
        '</script>',
        'of another class',
    ]
    assert not faults
    page.close()
