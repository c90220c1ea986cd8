"""The parts in whole detectors of mmdet."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmea.models import ExternalAttention2d, registered_layers
from mmea.models import padding_mask as padding
from mmea.registry import MODELS

pytest.importorskip('mmdet.models')
import mmdet  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402

ATTENTION = dict(type='mmea.ExternalAttention2d', num_slots=5)
BACKBONE = dict(
    type='mmea.StageAttentionResNet',
    after=['C4'],
    attention=ATTENTION,
    depth=18,
    base_channels=4,
    stem_channels=4,
    init_cfg=None,
)
NECK = [
    dict(
        type='FPN',
        in_channels=[4, 8, 16, 32],
        out_channels=8,
        start_level=1,
        add_extra_convs='on_output',
        num_outs=5,
    ),
    dict(type='mmea.EANeck', in_channels=[8] * 5, attention=ATTENTION),
    dict(
        type='mmea.EABFP',
        in_channels=8,
        num_levels=5,
        refine_level=1,
        attention=ATTENTION,
    ),
]
RETINANET = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='mmea.DetDataPreprocessor', pad_size_divisor=32
    ),
    backbone=BACKBONE,
    neck=NECK,
    bbox_head=dict(
        type='mmea.EARetinaHead',
        attention=ATTENTION,
        num_classes=2,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss'),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=50,
        score_thr=0.0,
        max_per_img=5,
        nms=dict(type='nms', iou_threshold=0.5),
    ),
)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
    padding._notes.clear()


def randomise(model):
    """The attention, and no more: nothing of it is the identity then."""
    for layer in model.modules():
        if isinstance(layer, ExternalAttention2d):
            for param in layer.parameters():
                nn.init.normal_(param, std=0.5)
    return model


def make_batch(sizes, fill=None):
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(
            torch.randint(256, (3, height, width), generator=generator).byte()
        )
        box = [4.0, 5.0, 36.0, 40.0]
        mask = torch.zeros(1, height, width, dtype=torch.uint8)
        mask[0, 5:40, 4:36] = 1
        samples.append(
            DetDataSample(
                metainfo=dict(
                    img_shape=(height, width),
                    ori_shape=(height, width),
                    scale_factor=(1.0, 1.0),
                ),
                gt_instances=InstanceData(
                    bboxes=torch.tensor([box]),
                    labels=torch.tensor([1]),
                    masks=BitmapMasks(mask.numpy(), height, width),
                ),
                ignored_instances=InstanceData(
                    bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
                ),
            )
        )
    return dict(inputs=inputs, data_samples=samples)


def attentions(model):
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, ExternalAttention2d)
    }


def test_retinanet_with_attention_everywhere():
    torch.manual_seed(0)
    model = MODELS.build(RETINANET)
    model.init_weights()
    plain = copy.deepcopy(model)
    for name in list(attentions(plain)):
        parent, _, child = name.rpartition('.')
        setattr(plain.get_submodule(parent), child, nn.Identity())
    assert len(attentions(model)) == 1 + 5 + 1 + 2
    x = torch.randn(1, 3, 64, 96)
    # The identity at the start, after the host's own initialisation.
    for got, want in zip(model.eval()(x), plain.eval()(x)):
        for g, w in zip(got, want):
            assert torch.equal(g, w)
    randomise(model).train()
    data = model.data_preprocessor(make_batch([(64, 96), (64, 64)]), True)
    losses = model(**data, mode='loss')
    sum(sum(loss) for loss in losses.values()).backward()
    for name, layer in attentions(model).items():
        for key, param in layer.named_parameters():
            assert param.grad is not None, f'{name}.{key}'
    # What each of them does is felt at the end.
    model.eval()
    base = model(x)
    for layer in attentions(model).values():
        kept = layer.out_proj.weight.detach().clone()
        nn.init.normal_(layer.out_proj.weight)
        assert not all(
            torch.equal(a, b)
            for got, want in zip(model(x), base)
            for a, b in zip(got, want)
        )
        layer.out_proj.weight.data.copy_(kept)


@pytest.mark.parametrize('training', [False, True])
def test_padding_reaches_no_attention(training):
    """Each layer's output on the valid region is that of the bare region."""
    torch.manual_seed(0)
    model = randomise(MODELS.build(RETINANET)).eval()
    seen = []
    for name, layer in attentions(model).items():
        layer.register_forward_hook(
            lambda layer, args, out, name=name: seen.append(
                (name, layer, args[0], out)
            )
        )
    data = make_batch([(64, 128), (80, 70)])
    data = model.data_preprocessor(data, training)
    assert data['inputs'].shape[-2:] == (96, 128)
    with torch.no_grad():
        model(**data, mode='tensor')
    assert len(seen) == 1 + 5 + 1 + 2 * 5
    checked = 0
    for name, layer, x, out in list(seen):
        bare = copy.deepcopy(layer)
        bare._forward_hooks.clear()
        bare.padded = False
        for i, (height, width) in enumerate([(64, 128), (80, 70)]):
            rows = -(-height * x.shape[2] // 96)
            columns = -(-width * x.shape[3] // 128)
            with torch.no_grad():
                want = bare(x[i : i + 1, :, :rows, :columns])
            got = out[i : i + 1, :, :rows, :columns]
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
            checked += rows < x.shape[2] or columns < x.shape[3]
            assert torch.equal(out[i, :, rows:], x[i, :, rows:]), (
                f'{name}: padding passes unchanged'
            )
    assert checked > 10


def test_switched_off_padding_takes_part():
    torch.manual_seed(0)
    cfg = copy.deepcopy(RETINANET)
    outs = []
    for mask in (True, False):
        cfg['data_preprocessor']['padding_mask'] = mask
        torch.manual_seed(0)
        model = randomise(MODELS.build(cfg)).eval()
        data = model.data_preprocessor(make_batch([(64, 128), (80, 70)]))
        with torch.no_grad():
            outs.append(model(**data, mode='tensor')[0][0])
    assert (outs[0] - outs[1]).abs().max() > 1e-4


def test_heads_without_attention():
    """``attention=None`` leaves mmdet's heads, names of parameters too."""
    from mmdet.models.dense_heads import RetinaHead
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    for ours, theirs, kwargs in (
        ('EARetinaHead', RetinaHead, dict(feat_channels=8, stacked_convs=1)),
        ('EAMaskHead', FCNMaskHead, dict(conv_out_channels=8, num_convs=1)),
    ):
        kwargs.update(num_classes=2, in_channels=8)
        head = MODELS.build(
            dict(type=f'mmea.{ours}', attention=None, **kwargs)
        )
        head.init_weights()
        plain = theirs(**kwargs)
        plain.load_state_dict(head.state_dict())
        x = torch.randn(1, 8, 14, 14)
        x = [x] * 5 if ours == 'EARetinaHead' else x
        torch.testing.assert_close(head(x), plain(x))


def test_branches_of_soft_teacher(monkeypatch):
    """A mask is that of its own branch, or there is none."""
    folder = Path(mmdet.__file__).parent / '.mim/configs/_base_/models'
    detector = Config.fromfile(folder / 'faster-rcnn_r50_fpn.py').model
    detector.backbone = dict(BACKBONE)
    detector.neck = [
        dict(NECK[0], start_level=0),
        dict(type='mmea.EANeck', in_channels=[8] * 5, attention=ATTENTION),
    ]
    detector.roi_head.bbox_roi_extractor.out_channels = 8
    detector.rpn_head.update(in_channels=8, feat_channels=8)
    detector.roi_head.bbox_head.update(in_channels=8, fc_out_channels=8)
    prepare = dict(type='mmea.DetDataPreprocessor', pad_size_divisor=32)
    detector.data_preprocessor = prepare
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='SoftTeacher',
            detector=detector,
            data_preprocessor=dict(
                type='MultiBranchDataPreprocessor', data_preprocessor=prepare
            ),
            semi_train_cfg=ConfigDict(
                freeze_teacher=True,
                sup_weight=1.0,
                unsup_weight=1.0,
                pseudo_label_initial_score_thr=0.0,
                rpn_pseudo_thr=0.0,
                cls_pseudo_thr=0.0,
                reg_pseudo_thr=1.0,
                jitter_times=1,
                jitter_scale=0.06,
                min_pseudo_bbox_wh=(0.01, 0.01),
            ),
            semi_test_cfg=ConfigDict(predict_on='teacher'),
        )
    )
    branches = dict(
        sup=make_batch([(64, 96), (80, 70), (96, 40)]),
        unsup_teacher=make_batch([(64, 96), (64, 64)]),
        unsup_student=make_batch([(96, 64), (90, 90)]),
    )
    for batch in branches.values():
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(homography_matrix=torch.eye(3).numpy()))
    data = dict(
        inputs={k: b['inputs'] for k, b in branches.items()},
        data_samples={k: b['data_samples'] for k, b in branches.items()},
    )
    seen = []
    monkeypatch.setattr(
        registered_layers,
        'current_mask',
        lambda x: seen.append((len(x), current_mask(x))) or seen[-1][1],
    )
    current_mask = padding.current_mask
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert {'sup_loss_cls', 'unsup_loss_cls'} <= losses.keys()
    # Once for C4 and each level, by the labelled, the teacher, the student.
    assert sorted(number for number, _ in seen) == [2] * 12 + [3] * 6
    for number, mask in seen:
        if number == 2:
            assert mask is None
        else:
            height, width = mask.shape[1:]
            rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
            want = [(64, 96), (80, 70), (96, 40)]
            for i, (h, w) in enumerate(want):
                assert rows[i] == -(-h * height // 96)
                assert columns[i] == -(-w * width // 96)
