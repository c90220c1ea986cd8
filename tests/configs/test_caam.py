"""CaaM's configs train, validate and resume."""

import json

import pytest
from mmengine.config import Config

pytest.importorskip('mmpretrain.models')

import mmea  # noqa: E402
from mmea.engine.checkpoint import load_checkpoint  # noqa: E402
from mmea.train import main  # noqa: E402

PAIRS = {
    net: [
        f'caam/{name}{net}_1xb32-30e_misleading-64x64.py'
        for name in ('', 'caam-')
    ]
    for net in ('resnet18-w32', 't2t-vit-7')
}
OPTIONS = [
    *(f'{part}_dataloader.dataset.number=13' for part in ('train', 'val')),
    'train_dataloader.batch_size=6',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
]
# Narrow nets; with and without CaaM.
NARROW = {
    'resnet18-w32': (
        'model.backbone.base_channels=4',
        'model.backbone.stem_channels=4',
        32,
    ),
    't2t-vit-7': ('model.backbone.embed_dims=8', None, 8),
}


def accuracies(path):
    lines = [
        json.loads(line)
        for file in sorted(path.rglob('scalars.json'))
        for line in file.read_text().splitlines()
    ]
    return [x['accuracy/top1'] for x in lines if 'accuracy/top1' in x]


@pytest.mark.parametrize('net', PAIRS)
def test_a_pair_differs_in_the_model_only(net):
    plain, caam = (
        Config.fromfile(mmea.config(name)).to_dict() for name in PAIRS[net]
    )
    assert {k for k in caam if caam[k] != plain.get(k)} == {
        'model',
        'custom_hooks',
    }
    assert set(plain) < set(caam)
    for key in ('mean', 'std'):
        values = [c['model']['data_preprocessor'][key] for c in (plain, caam)]
        assert values[0] == values[1]


@pytest.mark.parametrize('with_caam', [False, True])
@pytest.mark.parametrize('net', PAIRS)
def test_trains_and_resumes(net, with_caam, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    narrow, narrow_stem, channels = NARROW[net]
    options = [*OPTIONS, narrow]
    if with_caam:
        options += [
            f'model.in_channels={channels}',
            'custom_hooks.0.interval=1',
            'custom_hooks.0.search_epochs=2',
        ]
    else:
        options.append(f'model.head.in_channels={channels}')
        if narrow_stem:
            options.append(narrow_stem)
    args = [
        PAIRS[net][with_caam],
        '--work-dir',
        'work',
        '--cfg-options',
        *options,
    ]
    run(main, *args, 'train_cfg.max_epochs=2')
    assert (tmp_path / 'work/epoch_2.pth').exists()
    assert len(accuracies(tmp_path)) == 2
    run(main, *args, 'train_cfg.max_epochs=3', '--resume')
    state = load_checkpoint('work/epoch_3.pth', 'cpu')
    assert state['meta']['epoch'] == 3
    if with_caam:
        assert state['partition'].shape == (13,)
        assert set(state['partition'].tolist()) <= {0, 1, 2, 3}
