import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmea import train
from mmea.engine import checkpoint as checkpoint_module
from mmea.engine.checkpoint import download
from mmea.engine.pretrained import Pretrained
from mmea.errors import UserError

torchvision = pytest.importorskip('torchvision')
INPUT = torch.randn(1, 3, 67, 51, generator=torch.Generator().manual_seed(0))


def shaken(net: nn.Module) -> nn.Module:
    """Statistics as of a trained net, so that a norm left out would show."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def backbone(scope: str, path, **cfg) -> nn.Module:
    pytest.importorskip(scope)
    init_default_scope(scope)
    init = dict(type='mmea.Pretrained', checkpoint=str(path))
    return MODELS.build(dict(init_cfg=init, **cfg))


def start(net: nn.Module) -> nn.Module:
    net.init_weights()
    net.eval()  # theirs returns None
    return net


@torch.no_grad()
def outputs(net: nn.Module, stages) -> list[torch.Tensor]:
    """The maps behind these children of a Sequential."""
    x, maps = INPUT, []
    for i, stage in enumerate(net):
        x = stage(x)
        maps += [x] if i in stages else []
    return maps


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def mobilenet(tmp_path_factory):
    net = shaken(torchvision.models.mobilenet_v2())
    path = tmp_path_factory.mktemp('weights') / 'mobilenet.pth'
    torch.save(net.state_dict(), path)
    return net, path


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
    net = shaken(torchvision.models.resnet18())
    path = tmp_path_factory.mktemp('weights') / 'resnet.pth'
    torch.save(net.state_dict(), path)
    return net, path


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet', 'mmpretrain'])
def test_mobilenet_of_torchvision(scope, mobilenet):
    net, path = mobilenet
    stages = (1, 2, 4, 6)
    ours = start(backbone(scope, path, type='MobileNetV2', out_indices=stages))
    same(ours(INPUT), outputs(net.features, (3, 6, 13, 17)))


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet', 'mmpretrain'])
def test_resnet_of_torchvision(scope, resnet):
    net, path = resnet
    cfg = dict(type='ResNet', depth=18, out_indices=(0, 1, 2, 3))
    ours = start(backbone(scope, path, **cfg))
    same(ours(INPUT), outputs(list(net.children())[:-2], (4, 5, 6, 7)))


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_mobilenet_of_timm(scope, tmp_path):
    timm = pytest.importorskip('timm')
    net = shaken(timm.create_model('mobilenetv2_100', features_only=False))
    torch.save(dict(state_dict=net.state_dict()), tmp_path / 'x.pth')
    cfg = dict(type='MobileNetV2', out_indices=(1, 2, 4, 6))
    ours = start(backbone(scope, tmp_path / 'x.pth', **cfg))
    stem = nn.Sequential(net.conv_stem, net.bn1)
    same(ours(INPUT), outputs([stem, *net.blocks], (2, 3, 5, 7)))


@pytest.mark.parametrize(
    'name, kind', [('resnet18', 'ResNet'), ('resnet18d', 'ResNetV1d')]
)
def test_resnet_of_timm(name, kind, tmp_path):
    timm = pytest.importorskip('timm')
    net = shaken(timm.create_model(name, num_classes=7))
    torch.save(net.state_dict(), tmp_path / 'x.pth')
    cfg = dict(type=kind, depth=18, out_indices=(0, 1, 2, 3))
    ours = start(backbone('mmseg', tmp_path / 'x.pth', **cfg))
    stem = [net.conv1, net.bn1, net.act1, net.maxpool]
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    same(ours(INPUT), outputs([*stem, *stages], (4, 5, 6, 7)))


def test_an_attention_that_was_added_starts_by_itself(resnet):
    pytest.importorskip('mmseg')
    torch.manual_seed(0)
    cfg = dict(type='mmea.StageAttentionResNet', base='ResNet', depth=18)
    attention = dict(type='mmea.ExternalAttention2d', num_slots=8)
    net = backbone(
        'mmseg', resnet[1], after=['C4'], attention=attention, **cfg
    )
    ours = start(net)
    same(ours(INPUT), outputs(list(resnet[0].children())[:-2], (4, 5, 6, 7)))
    memories = [v for k, v in ours.state_dict().items() if 'key_memory' in k]
    assert len(memories) == 1 and memories[0].std() > 0


def test_names_of_the_model_itself(resnet, tmp_path):
    """As in a checkpoint of a whole model, and plain."""
    cfg = dict(type='ResNet', depth=18, out_indices=(3,))
    first = start(backbone('mmseg', resnet[1], **cfg))
    own = first.state_dict()
    whole = {f'backbone.{k}': v for k, v in own.items()}
    whole |= {'decode_head.conv_seg.weight': torch.zeros(3)}
    for i, state in enumerate([own, dict(state_dict=whole, meta={})]):
        torch.save(state, tmp_path / f'{i}.pth')
        again = start(backbone('mmseg', tmp_path / f'{i}.pth', **cfg))
        same([again(INPUT)[0]], [first(INPUT)[0]])


def drop(state: dict, start: str) -> dict:
    return {k: v for k, v in state.items() if not k.startswith(start)}


@pytest.mark.parametrize(
    'change, cfg, message',
    [
        (dict, dict(type='MobileNetV2', widen_factor=0.5), 'another shape'),
        (dict, dict(type='ResNet', depth=18), 'the model has no features'),
        (
            partial(drop, start='features.17.'),
            dict(type='MobileNetV2'),
            'the file has no layer7',
        ),
        (
            lambda state: state | {'features.4.se.weight': torch.ones(1)},
            dict(type='MobileNetV2'),
            'another architecture',
        ),
        (lambda state: {}, dict(type='MobileNetV2'), 'the file has no'),
        (lambda state: dict(a=3), dict(type='MobileNetV2'), "'a' is a int"),
    ],
)
def test_weights_of_another_architecture(
    change, cfg, message, mobilenet, tmp_path
):
    torch.save(change(mobilenet[0].state_dict()), tmp_path / 'x.pth')
    net = backbone('mmseg', tmp_path / 'x.pth', **cfg)
    with pytest.raises(UserError, match=message) as info:
        net.init_weights()
    assert str(tmp_path / 'x.pth') in str(info.value)
    assert '\n' not in str(info.value)


def test_weights_that_are_none(mobilenet, tmp_path):
    state = mobilenet[0].state_dict()
    state['features.0.1.bias'] = torch.full((32,), float('nan'))
    torch.save(state, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'hold NaN \(in conv1.bn.bias\)'):
        start(backbone('mmseg', tmp_path / 'x.pth', type='MobileNetV2'))
    with pytest.raises(UserError, match='must be a path or an address, got N'):
        Pretrained(checkpoint=None)


def test_one_block_more_or_less(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(UserError, match=r'the model has no layer1.2'):
        start(backbone('mmseg', path, type='ResNet', depth=18))
    torch.save(torchvision.models.resnet18().state_dict(), path)
    with pytest.raises(UserError, match=r'the file has no layer1.2'):
        start(backbone('mmseg', path, type='ResNet', depth=34))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An address that serves tmp_path/www, and a cache of its own."""
    (tmp_path / 'www').mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=str(tmp_path / 'www'))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
        yield f'http://127.0.0.1:{found.server_port}', tmp_path / 'www'
        found.shutdown()


def test_an_address_is_fetched_once(server, resnet):
    address, folder = server
    path = folder / 'resnet.pth'
    path.write_bytes(resnet[1].read_bytes())
    cfg = dict(type='ResNet', depth=18, out_indices=(3,))
    first = start(backbone('mmseg', f'{address}/resnet.pth', **cfg))
    path.unlink()
    again = start(backbone('mmseg', f'{address}/resnet.pth', **cfg))
    same([again(INPUT)[0]], [first(INPUT)[0]])
    # Another address with a file of the same name is another file.
    with pytest.raises(UserError, match='404'):
        download(f'{address}/other/resnet.pth')


def test_an_address_that_gives_nothing(server, monkeypatch):
    address, folder = server
    with pytest.raises(UserError, match=f'cannot download {address}/x.pth'):
        download(f'{address}/x.pth')
    (folder / 'x-0123abcd.pth').write_bytes(b'something')
    with pytest.raises(UserError, match='invalid hash value'):
        download(f'{address}/x-0123abcd.pth')
    assert not [p for p in Path(torch.hub.get_dir()).rglob('*') if p.is_file()]
    monkeypatch.setattr(
        checkpoint_module.torch.hub,
        'download_url_to_file',
        lambda *_: (_ for _ in ()).throw(OSError('no network')),
    )
    with pytest.raises(UserError, match='no network; download it elsewhere'):
        download('https://example.org/x.pth')


def test_training_says_it_in_one_line(project, run, mobilenet):
    init = dict(type='mmea.Pretrained', checkpoint=str(mobilenet[1]))
    init['_delete_'] = True
    Path('own.py').write_text(
        f"_base_ = './tiny.py'\nmodel = dict(backbone=dict(init_cfg={init}))"
    )
    with pytest.raises(SystemExit, match='error: the weights .*another arch'):
        run(train.main, 'own.py', '--work-dir', 'work')
