"""Graphs against the models that they were made from, by value."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmea
from mmea import layers
from mmea.cli.export import main
from mmea.errors import UserError
from mmea.export import write

pytest.importorskip('mmseg.models')
ort = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

from mmea.export import check as checks  # noqa: E402
from mmea.export.metadata import describe  # noqa: E402
from mmea.export.writer import _record, make_graph  # noqa: E402

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=5)
BACKBONE = dict(
    type='mmea.StageAttentionResNet',
    after=['C3'],
    attention=ATTENTION,
    depth=18,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(0, 1),
    base_channels=4,
    stem_channels=4,
    init_cfg=None,
)
SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='mmea.SegDataPreProcessor',
        mean=[120.0, 110.0, 90.0],
        std=[60.0, 50.0, 40.0],
        bgr_to_rgb=True,
    ),
    backbone=BACKBONE,
    neck=dict(type='FPN', in_channels=[4, 8], out_channels=8, num_outs=2),
    decode_head=dict(
        type='mmea.EAFPNHead',
        in_channels=[8, 8],
        in_index=[0, 1],
        feature_strides=[4, 8],
        channels=8,
        num_classes=3,
        dropout_ratio=0,
        align_corners=False,
        attention=ATTENTION,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
# Of the smallest net that has a graph: a stem, a pooling and a classifier.
HEAD = dict(
    type='FCNHead',
    in_channels=4,
    in_index=0,
    channels=4,
    num_convs=0,
    concat_input=False,
    num_classes=3,
    dropout_ratio=0,
    align_corners=False,
)
SMALL = dict(
    SEGMENTOR,
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        base_channels=4,
        stem_channels=4,
        init_cfg=None,
    ),
    neck=None,
    decode_head=HEAD,
)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(cfg, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(Config(dict(model=dict(cfg, **kwargs))).model).eval()
    for layer in model.modules():
        if isinstance(layer, layers.ExternalAttention2d):
            for param in layer.parameters():
                nn.init.normal_(param, std=0.3)
    # Scores that are far from each other.
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


def run(path, image):
    session = ort.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run(None, dict(image=image.numpy()))


def by_hand(model, image, turn=True):
    """Probabilities of an image in RGB, without the stack's preprocessor."""
    x = image.float()
    if not turn:
        x = x.flip(1)  # the net takes BGR
    x = x - torch.tensor([120.0, 110.0, 90.0])[:, None, None]
    x = x / torch.tensor([60.0, 50.0, 40.0])[:, None, None]
    logits = model.decode_head(model.extract_feat(x))
    size = image.shape[-2:]
    return nn.functional.interpolate(logits, size, mode='bilinear').softmax(1)


SIZES = [(1, 72, 40), (3, 65, 101)]


@torch.no_grad()
@pytest.mark.parametrize('turn', [True, False])
def test_eager_graph(turn):
    """Colours, normalisation and resizing, before anything is recorded."""
    cfg = dict(SEGMENTOR['data_preprocessor'], bgr_to_rgb=turn)
    model = build(SEGMENTOR, data_preprocessor=cfg)
    graph = make_graph(model)
    for shape in SIZES:
        image = checks.picture(shape[0], 3, *shape[1:])
        labels, scores = graph(image)
        want = by_hand(model, image, turn)
        torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-5)
        assert torch.equal(labels, scores.argmax(1))
        assert (
            graph.compare([labels, scores], graph.predict(model, image)) == ''
        )
        assert 'scores differ' in graph.compare(
            list(graph(image.flip(1))), graph.predict(model, image)
        )
    assert graph.model.decode_head.attention.deployed
    assert not model.decode_head.attention.deployed


@torch.no_grad()
def test_padding_to_a_divisor():
    """Right and below, filled by pad_val, and cropped off again."""
    cfg = dict(
        SMALL['data_preprocessor'], pad_val=3.0, test_cfg=dict(size_divisor=32)
    )
    model = build(SMALL, data_preprocessor=cfg)
    graph = make_graph(model)
    image = checks.picture(2, 3, 41, 65)
    x = graph.images(image)
    assert x.shape[-2:] == (64, 96)
    assert (x[:, :, 41:] == 3).all() and (x[..., 65:] == 3).all()
    labels, scores = graph(image)
    logits = model.decode_head(model.extract_feat(x))
    want = nn.functional.interpolate(logits, (64, 96), mode='bilinear')
    want = want[..., :41, :65].softmax(1)
    torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-5)
    assert graph.compare([labels, scores], graph.predict(model, image)) == ''


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize('cfg', [SEGMENTOR, SMALL], ids=['fpn', 'small'])
@pytest.mark.parametrize('name', ['a.onnx', 'a.pt2'])
def test_segmentor_of_any_size(tmp_path, cfg, name):
    model = build(cfg)
    path = tmp_path / name
    assert write(model, path) == f'{path}: labels, scores'
    for shape in SIZES:
        image = checks.picture(shape[0], 3, *shape[1:])
        if name.endswith('onnx'):
            labels, scores = map(torch.from_numpy, run(path, image))
        else:
            labels, scores = torch.export.load(path).module()(image)
        want = by_hand(model, image)
        assert (scores - want).abs().max() < 1e-4
        best = want.topk(2, 1).values
        clear = best[:, 0] - best[:, 1] > 1e-3
        assert torch.equal(labels[clear], want.argmax(1)[clear])
        assert labels.unique().numel() > 1


@torch.no_grad()
def test_fixed_size(tmp_path):
    model = build(SMALL, decode_head=dict(HEAD, num_classes=2, out_channels=1))
    path = tmp_path / 'a.onnx'
    meta = dict(classes=('a', 'ü'), palette=np.array([[0, 1, 2], [9, 8, 7]]))
    write(model, path, meta=meta, size=(40, 56), dtype=torch.float32)
    about = ort.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert about == dict(
        mmea=mmea.__version__,
        task='semantic segmentation',
        model='EncoderDecoder',
        channels='RGB',
        height='[40, 40]',
        width='[56, 56]',
        size_divisor='1',
        classes=json.dumps(['a', 'ü']),
        palette='[[0, 1, 2], [9, 8, 7]]',
    )
    image = checks.picture(1, 3, 40, 56).float()
    labels, scores = run(path, image)
    logits = model.decode_head(
        model.extract_feat(make_graph(model).images(image))
    )
    want = nn.functional.interpolate(logits, (40, 56), mode='bilinear')
    np.testing.assert_allclose(scores, want.sigmoid(), atol=1e-4)
    assert scores.shape == (1, 1, 40, 56) and labels.shape == (1, 40, 56)
    assert set(np.unique(labels)) <= {0, 1}
    with pytest.raises(Exception, match='invalid dimensions'):
        run(path, checks.picture(1, 3, 40, 64).float())


def test_metadata_of_any_size():
    padded = dict(SMALL['data_preprocessor'], test_cfg=dict(size_divisor=32))
    model = build(SMALL, data_preprocessor=padded)
    graph = make_graph(model)
    program = _record(graph, None, torch.uint8)
    about = describe(graph, model, {}, program)
    assert about['size_divisor'] == '32'
    for side in ('height', 'width'):
        low, high = json.loads(about[side])
        assert 1 <= low <= 40 and high is None
    assert not {'classes', 'palette'} & about.keys()


def test_another_opset_than_asked(tmp_path):
    """torch takes 18 instead, and says so in a warning at most."""
    with pytest.raises(UserError, match='no ONNX of opset 11: torch writes'):
        write(build(SMALL), tmp_path / 'a.onnx', size=(40, 56), opset=11)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_left(tmp_path, monkeypatch):
    """The size of the example, baked in as upstream's code does."""
    model = build(SMALL)
    path = tmp_path / 'a.pt2'
    path.write_text('old')
    monkeypatch.setattr(
        type(make_graph(model)),
        'compute',
        lambda self, x, height, width: _fixed(self.model, x),
    )
    with pytest.raises(UserError, match='not written: at 160 x 192, batch 1'):
        write(model, path)
    assert path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.pt2']


def _fixed(model, x):
    logits = model.decode_head(model.extract_feat(x))
    logits = nn.functional.interpolate(
        nn.functional.interpolate(logits, (24, 31)), x.shape[-2:]
    )
    return logits.argmax(1), logits.softmax(1)


def test_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match='end in .onnx or .pt2, got a.pb'):
        write(nn.Identity(), 'a.pb')
    with pytest.raises(UserError, match='cannot export a Identity'):
        write(nn.Identity(), tmp_path / 'a.onnx')
    slide = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(UserError, match='--fixed-size 64 64'):
        make_graph(build(SMALL, test_cfg=slide))
    make_graph(build(SMALL, test_cfg=slide), (64, 64))
    with pytest.raises(UserError, match='two ints >= 1'):
        write(build(SMALL), tmp_path / 'a.pt2', size=(0, 4))
    monkeypatch.setattr('mmea.export.writer.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'onnxscript: pip install "mmea\[ex'):
        write(build(SMALL), tmp_path / 'a.onnx')
    assert not list(tmp_path.iterdir())


def test_command(project, capsys):
    (project / 'small.py').write_text(
        f"_base_ = './tiny.py'\nmodel = dict(_delete_=True, **{SMALL!r})\n"
    )
    model = build(SMALL)
    meta = dict(dataset_meta=dict(classes=['a', 'b', 'c']))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'a.pth')
    size = ['--fixed-size', '40', '56']
    main(['small.py', 'a.pth', '--out', 'x/a.pt2', *size])
    assert capsys.readouterr().out.endswith('x/a.pt2: labels, scores\n')
    image = checks.picture(2, 3, 40, 56)
    extra = {'metadata.json': ''}
    program = torch.export.load('x/a.pt2', extra_files=extra)
    assert json.loads(json.loads(extra['metadata.json'])['classes']) == [
        *'abc'
    ]
    _, scores = program.module()(image)
    with torch.no_grad():
        torch.testing.assert_close(
            scores, by_hand(model, image), rtol=1e-4, atol=1e-5
        )
    with pytest.raises(SystemExit, match=r'error: --out must end in'):
        main(['small.py', 'a.pth', '--out', 'a.pth'])
