"""PCT against numbers recorded from the authors' code and from PCT_Pytorch."""

import pytest
from mmengine.structures import BaseDataElement

pytest.importorskip('mmcv')

from mmea.convert import SOURCES
from mmea.point_clouds.blocks import NeighbourPool
from mmea.registry import MODELS
from tests.host_oracle import host_cases
from tests.test_oracle import Case

pytestmark = pytest.mark.oracle

LEAKY = dict(type='LeakyReLU', negative_slope=0.2)


@pytest.mark.parametrize('path', host_cases('pct_cls_'))
def test_classifier(path):
    case = Case(path)
    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    width = fixed['width_divisor']
    port = 'torch_port' in path.stem
    model = MODELS.build(
        dict(
            type='mmea.PointCloudClassifier',
            backbone=dict(
                type='mmea.PCT',
                stem_channels=64 // width,
                num_points=ctor['npoint'],
                num_neighbours=ctor['nsample'],
                num_convs=2 if port else 1,
                position=not port,
                out_channels=1024 // width,
            ),
            num_classes=ctor['output_channels'],
            in_channels=1024 // width,
            hidden_channels=(512 // width, 256 // width),
            dropout=0.0,
            act_cfg=LEAKY if port else dict(type='ReLU'),
        )
    )
    case.check_module(model, 'pct_classifier')


@pytest.mark.parametrize('path', host_cases('pct_partseg_'))
def test_part_segmentor(path):
    case = Case(path)
    width = case.meta['fixed']['width_divisor']
    classes = case['input/cls_label']
    assert classes.sum(1).eq(1).all()
    model = MODELS.build(
        dict(
            type='mmea.PointPartSegmentor',
            backbone=dict(
                type='mmea.PCT',
                stem_channels=128 // width,
                num_points=(),
                num_convs=0,
                position=False,
                out_channels=1024 // width,
            ),
            num_parts=case.meta['ctor']['part_num'],
            num_classes=classes.shape[1],
            in_channels=1024 // width,
            class_channels=64 // width,
            hidden_channels=512 // width,
            dropout=0.0,
        )
    )
    samples = [BaseDataElement(gt_label=c.argmax()) for c in classes]
    case.check_module(model, 'pct_part_segmentor', lambda x: model(x, samples))


@pytest.mark.parametrize('path', host_cases('pct_local_op_'))
def test_neighbour_pool(path, monkeypatch):
    case = Case(path)
    rules = {
        f'{kind}{i + 1}.': f'{i}.{j}.'
        for i in (0, 1)
        for j, kind in enumerate(('conv', 'bn'))
    }
    source = SOURCES['ea_core']._replace(rules=rules)
    monkeypatch.setitem(SOURCES, 'pct_local_op', source)
    ctor = case.meta['ctor']
    pool = NeighbourPool(
        ctor['in_channels'], ctor['out_channels'], dict(type='BN1d')
    )
    case.check_module(pool, 'pct_local_op', pool.reference)
