"""What is published predicts as what was trained, and tells no paths."""

import hashlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

import mmea
from mmea import test, train
from mmea.cli.publish import main
from mmea.engine.checkpoint import load_checkpoint, pick_weights
from mmea.engine.config import load_config
from mmea.engine.data_checks.files import data_names
from mmea.engine.preflight import check_packages
from mmea.publish.card import read_metrics
from tests.conftest import call, write_project
from tests.swap.harness import get_config, small

pytest.importorskip('safetensors')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A training of four iterations, and an image."""
    root = tmp_path_factory.mktemp('secret')
    write_project(root)
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    cv2.imwrite(str(root / 'a.png'), picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        options = ['train_cfg.val_interval=2', 'log_level=ERROR']
        options += [f'test_dataloader.dataset.data_root={root}/data']
        call(train.main, 'tiny.py', '--cfg-options', *options)
        yield root


def scores(folder, *checkpoint):
    DefaultScope._instance_dict.clear()
    model = mmea.load(folder, *checkpoint, device='cpu')
    return model.predict('a.png').seg_logits.data, model.classes


def only(folder, pattern):
    (path,) = Path(folder).glob(pattern)
    return path


@pytest.fixture(scope='module')
def published(project):
    main(['tiny.py', 'work_dirs/tiny/iter_4.pth', '--out', 'out'])
    return project / 'out'


def test_by_mmea(published):
    want, classes = scores('tiny.py', 'work_dirs/tiny/iter_4.pth')
    found, same = scores('out')
    assert torch.equal(found, want)
    assert same == classes and len(classes) == 150


def test_a_published_config_has_its_own_weights(published, capsys):
    """Not those of a training of its name, in the work dir."""
    folder = Path('own')
    main(['tiny.py', 'work_dirs/tiny/iter_2.pth', '--out', str(folder)])
    capsys.readouterr()
    want, _ = scores('tiny.py', 'work_dirs/tiny/iter_2.pth')
    found, _ = scores('own/tiny.py')
    told = f'Taking the published weights: {only(folder, "*.safetensors")}\n'
    assert told in capsys.readouterr().out
    assert torch.equal(found, want)
    assert not torch.equal(found, scores('tiny.py')[0])
    data = [
        f'test_dataloader.dataset.{key}'
        for key in (
            'data_root=data',
            'data_prefix.img_path=images/validation',
            'data_prefix.seg_map_path=annotations/validation',
        )
    ]
    parts = [
        'test_cfg.type=TestLoop',
        'test_evaluator.type=mmea.PresentClassIoUMetric',
    ]
    call(test.main, folder / 'tiny.py', '--cfg-options', *data, *parts)
    assert told in capsys.readouterr().out
    # A config that trains does not take what lies beside it.
    Path('beside.safetensors').touch()
    assert pick_weights(load_config('tiny.py')).endswith('.pth')
    Path('beside.safetensors').unlink()


def test_elsewhere(published, tmp_path):
    """In another process, which has nothing but the folder."""
    want, _ = scores('tiny.py', 'work_dirs/tiny/iter_4.pth')
    code = (
        'import sys, torch, mmea\n'
        'found = mmea.load(sys.argv[1], device="cpu").predict(sys.argv[2])\n'
        'torch.save(found.seg_logits.data, "found.pt")'
    )
    picture = published.parent / 'a.png'
    subprocess.run(
        [sys.executable, '-c', code, published, picture],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert torch.equal(torch.load(tmp_path / 'found.pt'), want)


def test_by_mmseg(published):
    from mmseg.apis import inference_model, init_model

    want, classes = scores('tiny.py', 'work_dirs/tiny/iter_4.pth')
    config, pth = only('out', '*.py'), only('out', '*.pth')
    DefaultScope._instance_dict.clear()
    model = init_model(str(config), str(pth), device='cpu')
    assert tuple(model.dataset_meta['classes']) == classes
    assert len(model.dataset_meta['palette']) == 150
    found = inference_model(model, 'a.png').seg_logits.data
    assert torch.equal(found, want)


def test_names_and_weights(published):
    want = load_checkpoint('work_dirs/tiny/iter_4.pth', 'cpu')['state_dict']
    pth = torch.load(only('out', '*.pth'), weights_only=True)
    assert pth.keys() == {'meta', 'state_dict'}
    assert pth['meta'].keys() == {'dataset_meta'}
    assert pth['meta']['dataset_meta']['things'] == [0, 1]
    assert pth['state_dict'].keys() == want.keys()
    for name, value in want.items():
        assert torch.equal(pth['state_dict'][name], value), name
    card = (published / 'README.md').read_text()
    for kind in ('pth', 'safetensors'):
        path = only('out', f'*.{kind}')
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name == f'tiny-{sha[:8]}.{kind}'
        assert f'| {path.name} | `{sha}` |' in card


def test_config(published):
    text = (published / 'tiny.py').read_text()
    assert '_base_' not in text and 'init_cfg=dict' not in text
    for secret in ('data_root', 'ann_file', 'img_path', 'secret', 'work_dir'):
        assert secret not in text, secret
    cfg, old = Config.fromfile('out/tiny.py'), load_config('tiny.py')
    steps = [step.type for step in cfg.test_pipeline]
    assert steps == [step.type for step in old.test_pipeline]
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
    meta = cfg.test_dataloader.dataset.metainfo
    assert len(meta.classes) == len(meta.palette) == 150
    assert cfg.model.backbone.depth == 18


def test_card(published):
    card = (published / 'README.md').read_text()
    (scalars,) = Path('work_dirs/tiny').glob('*/vis_data/scalars.json')
    records = map(json.loads, scalars.read_text().splitlines())
    (at_4,) = [r for r in records if r['step'] == 4 and 'mIoU' in r]
    for line in (
        f'| mIoU | {at_4["mIoU"]:g} |',
        '| measured by | mmea.PresentClassIoUMetric |',
        '| seed | 0 |',
        '| schedule of the config | 4 iterations, 4 images a process and '
        'step, SGD of rate 0.1 |',
        '| licence | not given |',
        'library_name: mmea',
        'pipeline_tag: image-segmentation',
    ):
        assert line in card.splitlines(), card
    assert 'EncoderDecoder, trained with mmea on ADE20KDataset, 150' in card
    assert f'| written with | torch {torch.__version__}, mmengine ' in card
    assert f', mmea {mmea.__version__} |' in card
    assert 'license:' not in card and 'None' not in card


def test_data_is_called_by_its_folder_where_the_class_says_nothing():
    own = dict(metainfo=dict(classes=('a',)), data_prefix=dict(img='bees/'))
    seg = dict(type='BaseSegDataset', data_root='/home/me/street/')
    wrapped = dict(type='RepeatDataset', dataset=dict(seg))
    coco = dict(type='CocoDataset', data_root='data/coco/')
    for dataset, want in (
        (dict(type='ConcatDataset', datasets=[seg, wrapped, coco]),
         ['street (BaseSegDataset)', 'CocoDataset']),
        (dict(own, type='CocoDataset'), ['bees (CocoDataset)']),
        (dict(own, type='ADE20KDataset'), ['ADE20KDataset']),
    ):  # fmt: skip
        assert data_names(Config(dict(x=dataset)).x) == want


def test_the_card_has_the_metrics_of_the_checkpoints_own_run(tmp_path):
    """Not those of a later run in the same folder."""
    for time, value in (('20260101_000000', 0.5), ('20260102_000000', 0.2)):
        path = tmp_path / time / 'vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(dict(mIoU=value, step=4)) + '\n')
    cfg = Config(
        dict(default_hooks=dict(logger=dict(log_metric_by_epoch=False)))
    )
    for name, want in (
        ('tiny_20260101_000000', dict(mIoU=0.5)),
        ('tiny_20260102_000000', dict(mIoU=0.2)),
        ('tiny_20260103_000000', {}),  # its log is gone
        (None, dict(mIoU=0.2)),
    ):
        meta = dict(iter=4, experiment_name=name)
        assert read_metrics(tmp_path, cfg, meta) == want


def test_half_and_license(project):
    options = ['--half', '--license', 'apache-2.0', '--name', 'low']
    main(['tiny.py', '--out', 'half', *options])  # the latest one
    assert only('half', '*.py').name == 'low.py'
    want = load_checkpoint('work_dirs/tiny/iter_4.pth', 'cpu')['state_dict']
    half = torch.load(only('half', '*.pth'), weights_only=True)['state_dict']
    assert half['decode_head.conv_seg.weight'].dtype == torch.float16
    for name, value in want.items():
        if value.is_floating_point():
            value = value.half()
        assert torch.equal(half[name], value), name
    found, _ = scores('half')
    exact, _ = scores('tiny.py', 'work_dirs/tiny/iter_4.pth')
    assert 0 < (found - exact).abs().max() < 0.05
    card = Path('half/README.md').read_text()
    assert 'license: apache-2.0\n' in card and '| weights | float16' in card


def test_published_again(published, capsys):
    before = {path.name for path in published.iterdir()}
    args = ['tiny.py', 'work_dirs/tiny/iter_2.pth', '--out', 'again']
    main(args)
    with pytest.raises(SystemExit, match='again is not empty.*--force'):
        main(args)
    args[1] = 'work_dirs/tiny/iter_4.pth'
    main([*args, '--force'])
    assert {path.name for path in Path('again').iterdir()} == before
    Path('again/mine.py').touch()
    with pytest.raises(SystemExit, match='again holds mine.py'):
        main([*args, '--force'])


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        (['--name', 'my/net'], "a name takes letters.* got 'my/net'"),
        (['--license', 'my own: x'], 'license takes an identifier'),
        (['--work-dir', 'nothing'], 'no checkpoint in nothing'),
        (['--out', 'tiny.py'], 'tiny.py is a file'),
        (
            ['--cfg-options', 'visualizer.type=/home/me'],
            'visualizer.type=.* is a path of this machine',
        ),
        (['--upload', 'repo'], 'USER/REPO'),
    ],
)
def test_refused(project, options, error):
    with pytest.raises(SystemExit, match=f'error: .*{error}'):
        main(['tiny.py', '--out', 'refused', *options])
    assert not Path('refused').exists()


class FakeHub:
    calls = []

    def create_repo(self, repo_id, exist_ok):
        self.calls.append((repo_id, exist_ok))

    def upload_folder(self, **kwargs):
        self.calls.append(kwargs)


def test_upload(project, monkeypatch):
    fake = type(sys)('huggingface_hub')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
    args = ['tiny.py', '--out', 'up', '--upload', 'me/tiny']
    with pytest.raises(SystemExit, match='pip install huggingface_hub'):
        main(args)
    fake.HfApi = FakeHub
    main(args)
    made, sent = FakeHub.calls
    assert made == ('me/tiny', True)
    assert sent['repo_id'] == 'me/tiny' and sent['folder_path'] == 'up'
    names = sorted(path.name for path in Path('up').iterdir())
    assert sorted(sent['allow_patterns']) == names
    old = sent['delete_patterns']
    assert old == ['tiny-*.pth', 'tiny-*.safetensors']


def test_upload_as_the_package_takes_it():
    hub = pytest.importorskip('huggingface_hub')
    for name in ('create_repo', 'upload_folder'):
        real = inspect.signature(getattr(hub.HfApi, name))
        words = {
            'create_repo': ['repo_id', 'exist_ok'],
            'upload_folder': [
                'repo_id',
                'folder_path',
                'allow_patterns',
                'delete_patterns',
            ],
        }
        real.bind(None, **dict.fromkeys(words[name]))


def test_safetensors_is_missing(project, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(SystemExit, match='pip install safetensors'):
        main(['tiny.py', '--out', 'none'])
    assert not Path('none').exists()


def weights_of(name, meta={}, **options):
    """The model of a config with random weights, saved as if trained."""
    cfg = load_config(name, **options)
    check_packages(cfg)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'net.pth')
    return cfg


def test_swapped_attention(project):
    _, nlnet = get_config('nlnet')
    changes = dict(num_classes=150, dropout_ratio=0)
    nlnet = small(
        nlnet,
        data_preprocessor=dict(size=(32, 48)),
        test_cfg=dict(mode='whole'),
        decode_head=changes,
    )
    nlnet = Config(dict(model=nlnet)).to_dict()['model']
    Path('nl.py').write_text(
        f"_base_ = './tiny.py'\nmodel = dict(_delete_=True, **{nlnet!r})\n"
    )
    layer = 'mmea.ExternalAttention2d'
    cfg = weights_of('nl.py', swap=layer)
    args = ['nl.py', 'net.pth', '--out', 'swapped', '--swap-attention', layer]
    main(args)
    assert only('swapped', '*.py').name == 'nl_ExternalAttention2d.py'
    assert torch.equal(scores('swapped')[0], scores(cfg, 'net.pth')[0])
    state = torch.load(only('swapped', '*.pth'))['state_dict']
    assert 'decode_head.nl_block.key_memory' in state
    assert '\nEncoderDecoder, trained' in Path('swapped/README.md').read_text()


def test_a_detector(project):
    apis = pytest.importorskip('mmdet.apis')
    name = 'mask_rcnn/ea_mask-rcnn_r50_fpn_1x_coco'
    low = {'model.test_cfg.rcnn.score_thr': 0.0}
    cfg = weights_of(name, dict(epoch=1, seed=5), demo=True, options=low)
    options = ['--demo', '--cfg-options', 'model.test_cfg.rcnn.score_thr=0.0']
    main([name, 'net.pth', '--out', 'det', *options])
    found = []
    for where in ([cfg, 'net.pth'], ['det']):
        DefaultScope._instance_dict.clear()
        model = mmea.load(*where, device='cpu')
        found.append(model.predict('a.png').pred_instances)
    files = only('det', '*.py'), only('det', '*.pth')
    assert files[0].name == 'ea_mask-rcnn_r50_fpn_1x_coco_demo.py'
    DefaultScope._instance_dict.clear()
    model = apis.init_detector(*map(str, files), device='cpu')
    found.append(apis.inference_detector(model, 'a.png').pred_instances)
    assert len(found[0].scores)
    for other in found[1:]:
        for key in ('bboxes', 'labels', 'scores', 'masks'):
            want, got = map(torch.as_tensor, (found[0][key], other[key]))
            assert torch.equal(got, want), key
    assert model.dataset_meta['classes'][:2] == ('person', 'bicycle')
    assert isinstance(model.dataset_meta['palette'][0], tuple)
    card = Path('det/README.md').read_text()
    assert '| seed | 5 |' in card and '\nMaskRCNN, trained' in card
    assert 'measured' not in card


def test_a_classifier(project):
    """Its preprocessor stands beside the model, as mmpretrain has it."""
    mmpretrain = pytest.importorskip('mmpretrain')
    name = 'mmpretrain:resnet18_8xb32_in1k'
    weights_of(name)
    main([name, 'net.pth', '--out', 'cls'])
    cfg = load_config(name)
    path = 'cls/resnet18_8xb32_in1k.py'
    pairs = [(cfg, 'net.pth'), (path, str(only('cls', '*.pth')))]
    want, found = (
        mmpretrain.ImageClassificationInferencer(
            mmpretrain.get_model(config, pretrained=weights, device='cpu')
        )('a.png')[0]
        for config, weights in pairs
    )
    assert found['pred_class'] == want['pred_class']
    assert np.array_equal(found['pred_scores'], want['pred_scores'])
    DefaultScope._instance_dict.clear()
    model = mmea.load('cls', device='cpu')
    found = model.predict('a.png').pred_score
    assert np.array_equal(found, want['pred_scores'])
    assert len(model.classes) == 1000
