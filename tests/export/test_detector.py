"""Detectors as graphs: all boxes of one stage, the maps of two."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmea import layers
from mmea.errors import UserError

pytest.importorskip('mmdet.models')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

from mmea.export import write  # noqa: E402
from mmea.export.check import picture  # noqa: E402
from mmea.export.writer import make_graph  # noqa: E402
from tests.models.test_detectors import BACKBONE, NECK, RETINANET  # noqa: E402


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def randomise(model):
    for layer in model.modules():
        if isinstance(layer, layers.ExternalAttention2d):
            for param in layer.parameters():
                nn.init.normal_(param, std=0.3)
    return model.eval()


@pytest.fixture
def retinanet():
    torch.manual_seed(0)
    cfg = copy.deepcopy(RETINANET)
    cfg['data_preprocessor'].update(
        mean=[120.0, 110.0, 90.0], std=[60.0, 50.0, 40.0], bgr_to_rgb=True
    )
    cfg['test_cfg'].update(score_thr=0.5, min_bbox_size=2)
    model = randomise(MODELS.build(Config(dict(model=cfg)).model))
    nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.05)
    return model


def run(path, image):
    if path.suffix == '.pt2':
        return torch.export.load(path).module()(image)
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    found = session.run(None, dict(image=image.numpy()))
    return [torch.from_numpy(x) for x in found]


SIZES = [(96, 128), (91, 67), (70, 150)]


@torch.no_grad()
def test_eager_boxes(retinanet):
    """Padding, mask, decoding and NMS, before anything is recorded."""
    graph = make_graph(retinanet)
    for size in SIZES:
        image = picture(1, 3, *size)
        want = graph.predict(retinanet, image)
        assert len(want[0]) == 5
        graph.score_thr.zero_()
        assert graph.compare(list(graph(image)), want) == ''
        boxes, scores, labels = graph(image)
        assert 'boxes are others' in graph.compare(
            [boxes + 1, scores, labels], want
        )
        assert 'scores' in graph.compare([boxes, scores - 1, labels], want)
        graph.score_thr.fill_(2.0)
        assert [len(x) for x in graph(image)] == [0, 0, 0]


@torch.no_grad()
def test_mask_of_padding(retinanet):
    """Without it the boxes are others, or the test above says nothing."""
    graph = make_graph(retinanet)
    graph.score_thr.zero_()
    graph.images.masks = False
    image = picture(1, 3, 91, 67)
    want = graph.predict(retinanet, image)
    assert graph.compare(list(graph(image)), want)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize('name', ['a.onnx', 'a.pt2'])
def test_retinanet_of_any_size(tmp_path, retinanet, name):
    retinanet.neck = retinanet.neck[:2]  # EABFP pools to the size at hand
    path = tmp_path / name
    assert write(retinanet, path) == f'{path}: boxes, scores, labels'
    graph = make_graph(retinanet)
    for size in [(160, 132), (131, 187)]:
        image = picture(1, 3, *size)
        found = run(path, image)
        want = graph.predict(retinanet, image)
        above = want[1] > 0.5  # the threshold is the config's again
        assert above.any()
        assert graph.compare(list(found), [x[above] for x in want]) == ''


def test_refused_heads(retinanet):
    retinanet.bbox_head.test_cfg.nms = ConfigDict(
        type='soft_nms', iou_threshold=0.5
    )
    with pytest.raises(UserError, match='EARetinaHead: it has test_cfg.nms'):
        make_graph(retinanet)


@torch.no_grad()
def test_two_stages_up_to_the_proposals(tmp_path):
    from pathlib import Path

    import mmdet

    folder = Path(mmdet.__file__).parent / '.mim/configs/_base_/models'
    cfg = Config.fromfile(folder / 'faster-rcnn_r50_fpn.py').model
    cfg.backbone = dict(BACKBONE)
    cfg.neck = dict(NECK[0], start_level=0)
    cfg.roi_head.bbox_roi_extractor.out_channels = 8
    cfg.rpn_head.update(in_channels=8, feat_channels=8)
    cfg.roi_head.bbox_head.update(in_channels=8, fc_out_channels=8)
    torch.manual_seed(0)
    model = randomise(MODELS.build(cfg))
    graph = make_graph(model)
    assert graph.names[::5] == ('feat0', 'rpn_scores0', 'rpn_deltas0')
    image = picture(2, 3, 75, 50)
    found = list(graph(image))
    assert graph.compare(found, graph.predict(model, image)) == ''
    found[7] = found[7] + 0.01
    problem = graph.compare(found, graph.predict(model, image))
    assert problem.startswith('rpn_scores2 differ by 0.01')
    path = tmp_path / 'a.pt2'
    assert 'RoI heads are not in the file' in write(model, path, size=(75, 50))
    for got, want in zip(
        torch.export.load(path).module()(image), graph(image)
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
