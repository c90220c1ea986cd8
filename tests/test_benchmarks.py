"""The benchmark runs, on small maps, and writes what it should."""

import argparse
import contextlib
import csv
import io
import json
import re
import shutil
import statistics
import sys
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import (
    blocks,
    detector_places,
    gan,
    multihead,
    overview,
    run,
    scaling,
    side_by_side,
)
from mmea.compare.run_files import read
from mmea.gan import TrainedHereExtractor
from mmea.layers import ExternalAttention2d

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Call it with options; what it measured, and the folder."""

    def call(*options):
        command = ['run', *map(str, options), '--rounds', '1']
        monkeypatch.setattr(sys, 'argv', [*command, '--out', str(tmp_path)])
        run.main()
        cuda = torch.cuda.is_available()
        folder = 'cuda-float32' if cuda else 'cpu-float32-1-thread'
        with open(tmp_path / folder / 'table.csv', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        found = {(r['member'], r['size'], r['mode']): r for r in rows}
        return found, tmp_path / folder

    return call


@pytest.fixture
def at_once(monkeypatch):
    """Its processes run in this one."""

    def launch(args, worker, plan, _):
        args = argparse.Namespace(
            **dict(vars(args), worker=worker, plan=plan if worker else None)
        )
        with contextlib.redirect_stdout(io.StringIO()) as out:
            run.work(args)
        return map(json.loads, out.getvalue().splitlines())

    monkeypatch.setattr(run, 'launch', launch)


def test_command(command, at_once):
    found, folder = command(
        *('--sizes', 4, 16, '--tokens', 16, '--processes', 2),
        *('--parts', 'blocks', 'multihead'),
        *('--only', *(set(blocks.BLOCKS) - {blocks.COMPILED})),
    )
    ours = found['external, low-rank (default)', '16', 'training']
    published = found['external, published form', '16', 'training']
    assert ours['processes'] == '2' and float(ours['seconds']) > 0
    assert float(ours['saved']) < float(published['saved'])
    inplace = found[blocks.INPLACE, '16', 'inference']
    assert float(inplace['memory']) < float(
        found['external, low-rank (default)', '16', 'inference']['memory']
    )
    assert found['external, published form', '16', 'inference']['macs'] == str(
        2 * (512 * 512 + 512 * 64) * 256
    )
    c, n = 256, 16
    attention = found['self-attention', f'{c} x {n}', 'inference']
    assert attention['macs'] == str(4 * n * c**2 + 2 * n**2 * c)
    for e in (1, 4):
        row = found[f'external, expansion {e}', f'{c} x {n}', 'inference']
        assert row['macs'] == str(2 * e * c * (c + 64) * n)
    text = (folder / 'README.md').read_text(encoding='utf-8')
    for name in (
        'non-local',
        'efficient attention',
        'growth',
        'Times faster than external, published form, training',
        '256 x 16',
    ):
        assert name in text
    assert (folder / 'blocks.png').stat().st_size > 10_000


@pytest.mark.slow
def test_processes_and_a_compiled_block(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    both = (blocks.PUBLISHED, blocks.COMPILED)
    options = ('--parts', 'blocks', '--sizes', 4, '--processes', 1)
    found, _ = command(*options, '--only', *both)
    assert {name for name, *_ in found} == set(both)


def recorded(folder, part):
    """What counts do not depend on the machine, of an earlier run."""
    path = ROOT / 'benchmarks/results' / folder / 'cpu-float32-1-thread'
    with open(path / 'table.csv', encoding='utf-8') as file:
        return {
            (row['name'], row['size']): row
            for row in csv.DictReader(file)
            if (row['part'], row['mode']) == (part, 'inference')
        }


def test_places_in_a_detector():
    rows = recorded('detector_places', 'insertions')
    kinds, places = detector_places.KINDS, detector_places.PLACES
    for place, kind in product(places, kinds):
        step = detector_places.make_step(
            kind, place, 'inference', 'cpu', torch.float32
        )
        assert (step is None) == ((kind, place) not in rows)
        if step and places[place][0][0][2] < 30:  # a small map
            found, row = step.count(), rows[kind, place]
            assert [found['parameters'], found['macs']] == [
                int(row['parameters']),
                int(row['macs']),
            ]
    step = detector_places.make_step(
        'non-local', 'after C5', 'training', 'cpu', torch.float32
    )
    step()
    assert all(x.grad.abs().max() > 0 for x in step.inputs)


def test_throughput_of_a_segmentor(monkeypatch, capsys):
    throughput = pytest.importorskip('benchmarks.throughput')
    monkeypatch.setattr(throughput, 'SIZE', (32, 64))
    monkeypatch.setattr(throughput, 'ROUNDS', 1)
    # Half a second a step, whose logits are those of the size asked for.
    seen = []

    def time_steps(steps, device, rounds):
        seen.append(steps[0].forward().shape)
        return {0: 0.5}

    monkeypatch.setattr(throughput, 'time_steps', time_steps)
    throughput.main(['--batches', '2'])
    assert seen == [(2, 11, 32, 64)] * 4
    assert capsys.readouterr().out.count('4.0 (4.0 to 4.0)') == 8


def test_images_are_enlarged_and_labels_are_not(tmp_path):
    larger_images = pytest.importorskip('benchmarks.larger_images')
    from mmseg.registry import TRANSFORMS

    from mmea.engine.config import load_config

    cfg = load_config('ccp/ea_fpn_mobilenet-v2_1xb4_ccp-320x240.py')
    larger_images.enlarge(cfg, 2)
    image, label = tmp_path / 'image.png', tmp_path / 'label.png'
    Image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(image)
    Image.fromarray(np.full((5, 7), 3, np.uint8)).save(label)
    found = dict(img_path=str(image), seg_map_path=str(label), seg_fields=[])
    found.update(reduce_zero_label=False)
    for step in cfg.val_dataloader.dataset.pipeline:
        found = TRANSFORMS.build(step)(found)
    assert found['inputs'].shape == (3, 10, 14)
    assert found['data_samples'].ori_shape == (5, 7)
    assert found['data_samples'].gt_sem_seg.shape == (5, 7)


def test_attention_by_windows():
    """Each window as if it was the map; a member within one is cut once."""
    larger_images = pytest.importorskip('benchmarks.larger_images')
    from mmea.models.padding_mask import note_sizes

    layer = ExternalAttention2d(4, num_slots=3, zero_init=False)
    host = torch.nn.Sequential(layer.eval())
    x = torch.randn(1, 4, 5, 6)
    whole, rows = host(x), [host(x[:, :, :3]), host(x[:, :, 3:])]
    layer.inside = ExternalAttention2d(4)
    before = layer.inside.forward
    larger_images.cut_attention(host, 2, 1)
    assert layer.inside.forward == before
    torch.testing.assert_close(host(x), torch.cat(rows, 2))
    assert not torch.allclose(host(x), whole)
    images = torch.zeros(1, 3, 5, 6)
    note_sizes(images, [(5, 4)])
    with pytest.raises(ValueError, match='does not know padding'):
        host(x)


def test_eamlp_with_layer_scale():
    """A factor of 1 changes nothing, one of 0 leaves the tokens alone."""
    eamlp = pytest.importorskip('benchmarks.eamlp')
    sizes = dict(embed_dims=8, num_layers=2, num_heads=2)
    sizes.update(feedforward_channels=12)
    more = dict(arch=sizes, img_size=32, token_dims=8)
    host = eamlp.EAMLP(**more).eval()
    x = torch.randn(2, 3, 32, 48)
    for scale in (1.0, 0.0):
        net = eamlp.LayerScaleEAMLP(**more, scale=scale).eval()
        missing, unexpected = net.load_state_dict(host.state_dict(), False)
        assert len(missing) == 4 and not unexpected
        if scale == 0.0:
            host.blocks = torch.nn.ModuleList(
                torch.nn.Identity() for _ in 'ab'
            )
        torch.testing.assert_close(net(x), host(x))


def test_a_case_of_eamlp(tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    eamlp = pytest.importorskip('benchmarks.eamlp')

    def shorten(cfg):
        eamlp.CASES['published'](cfg)
        assert cfg.model.backbone.get('stem') == 'tokens_to_token'
        assert cfg.model.backbone.init_cfg is None
        cfg.demo_scenes.update(num_train=6, num_val=6)
        cfg.train_cfg.update(max_epochs=2, val_interval=1)
        cfg.default_hooks.logger.interval = 1
        cfg.train_dataloader.batch_size = 3
        for name in ('train', 'val'):
            cfg[f'{name}_dataloader'].num_workers = 0
            cfg[f'{name}_dataloader'].persistent_workers = False

    for case in ('before', 'short'):  # each has its own log
        monkeypatch.setitem(eamlp.CASES, case, shorten)
        rows = eamlp.train(case, tmp_path)
    assert [(row['case'], row['iteration']) for row in rows] == [
        ('short', 2),
        ('short', 4),
    ]
    assert all(0 <= row['top-1'] <= 100 for row in rows)
    log = next(tmp_path.glob('short/*/vis_data/scalars.json')).read_text()
    lines = map(json.loads, log.splitlines())
    losses = [line['loss'] for line in lines if 'loss' in line]
    want = [round(losses[1], 3), round(losses[3], 3)]
    assert [row['loss'] for row in rows] == want


def test_a_segmentor(monkeypatch):
    segmentors = pytest.importorskip('benchmarks.segmentors')
    form, name = 'external, published form', 'EA-FPN R-50'
    found = segmentors.make_step(
        form, name, 'inference', 'cpu', torch.float32
    ).count()
    row = recorded('.', 'segmentors')[form, name]
    assert [found['parameters'], found['macs']] == [
        int(row['parameters']),
        int(row['macs']),
    ]
    monkeypatch.setattr(segmentors, 'CROP', 64)
    step = segmentors.make_step(form, name, 'training', 'cpu', torch.float32)
    step()
    assert all(p.grad is not None for p in step.module.parameters())
    assert step.inputs[0].grad is None


@torch.no_grad()
def test_whole_networks(monkeypatch):
    pytest.importorskip('mmpretrain')
    monkeypatch.setattr(multihead, 'IMAGES', 1)

    def make(kind, mode='inference'):
        return multihead.make_network_step(
            kind, 'EAMLP-7', mode, 'cpu', torch.float32
        )

    first, folded, *others = map(make, multihead.NETWORK_KINDS)
    torch.testing.assert_close(
        folded.forward(), first.forward(), rtol=1e-4, atol=1e-4
    )
    assert folded.count()['macs'] < first.count()['macs']
    for step in others:
        assert step.forward().shape == first.forward().shape == (1, 256)
        assert step.count()['parameters'] > 10**6
    assert make('EAMLP, deployed', 'training') is None


def test_costs_in_the_readme_are_those_of_the_table():
    table = overview.RESULTS / 'family/cost.csv'
    with table.open(encoding='utf-8') as file:
        rows = [r for r in csv.DictReader(file) if r['size'] == '64']
    found = {(r['member'], r['mode']): r for r in rows}
    lines = re.findall(
        r'^\| \**`(\w+)`\** \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|',
        (ROOT / 'README.md').read_text('utf-8'),
        re.M,
    )
    assert {name for name, *_ in lines} == set(overview.MEMBERS)
    for name, gmac, *times in lines:
        macs = int(found[name, 'inference']['macs'])
        assert float(gmac) == pytest.approx(macs / 1e9, rel=0.005)
        for mode, shown in zip(('inference', 'training'), times):
            ms = float(found[name, mode]['seconds']) * 1e3
            assert float(shown) == pytest.approx(ms, rel=0.03)


def test_accuracies_in_the_readme_are_those_of_the_tables():
    text = (ROOT / 'README.md').read_text('utf-8')
    folders = 'camvid-h200', 'camvid-without-0006r0-h200', 'ccp'
    for member, row in {
        'none': '| no attention |',
        'ExternalAttention2d': '| **`ExternalAttention2d`** |',
        'control': '| its control: each pixel by itself |',
        'EfficientAttention2d': '| `EfficientAttention2d` |',
        'NonLocal2d:sub_sample=True': '| `NonLocal2d` |',
        'SelfAttention2d': '| `SelfAttention2d` |',
    }.items():
        line = next(x for x in text.splitlines() if x.startswith(row))
        cells = [cell.strip() for cell in line.split('|')]
        for folder, cell in zip(folders, cells[5:8]):
            found = overview.read_metric(folder, 'mIoU', 1)
            seeds = list(found.get(member, {}).values())
            assert len(seeds) >= 3 or not cell
            if seeds:
                mean, spread = statistics.mean(seeds), statistics.stdev(seeds)
                few = '' if len(seeds) == 5 else r' \*'
                assert cell == f'{mean:.2f} ± {spread:.2f}{few}'


def test_pictures_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, 'PICTURES', tmp_path)
    overview.main([])
    for name in ('cost', 'gains'):
        assert plt.imread(tmp_path / f'{name}.png').std() > 0
    axis = Figure().subplots()
    overview.draw_gains(axis)
    # Of CCP: each seed, and their mean.
    seeds, mean = axis.lines[0], axis.lines[1]
    found = overview.read_metric('ccp', 'mIoU', 1)
    ours, none = found['ExternalAttention2d'], found['none']
    gains = [ours[seed] - none[seed] for seed in ours]
    assert list(seeds.get_xdata()) == pytest.approx(gains)
    assert mean.get_xdata()[0] == pytest.approx(statistics.mean(gains))


def test_side_by_side(capsys):
    """Members of several comparisons, paired seed by seed."""
    runs = f'{overview.RESULTS}/ccp/runs'
    other = f'{overview.RESULTS}/ccp-places-relu/stride-8/runs'
    members = [
        f'no attention={runs}/none',
        f'merged={runs}/ExternalAttention2d',
        f'stride 8={other}/ExternalAttention2d',
    ]
    side_by_side.main(members)
    found = capsys.readouterr().out
    none, merged, stride_8 = (
        {
            path.parent.name: read(path)['metrics']['mIoU']
            for path in Path(member.split('=')[1]).glob('seed-*/result.json')
        }
        for member in members
    )
    assert len(none) == len(merged) == 5 and len(stride_8) == 3
    for name, own in ('merged', merged), ('stride 8', stride_8):
        gain = statistics.mean(own[seed] - none[seed] for seed in own)
        shown = re.escape(f'{gain:+.2f} [')
        assert re.search(rf'^\| {name} +\| {shown}', found, re.M)
        assert f'({len(own)} runs)' in found


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        (['a=nowhere'], 'nowhere: no seed-N/result.json'),
        ([f'a={overview.RESULTS}/ccp/runs'], 'ccp/runs: no seed-N'),
        (['none'], "'none': give NAME=FOLDER"),
        (['a|b=ccp/runs/none'], 'no | in the name'),
        (['=ccp/runs/none'], 'give NAME=FOLDER'),
        (
            ['a=ccp/runs/none', 'b=small-start/ccp-h100/runs/none'],
            'does not tell its device',
        ),
        (
            ['a=ccp/runs/none', 'b=camvid/runs/none'],
            'a run with other versions, data or device',
        ),
        (
            ['a=ccp/runs/none', 'a=camvid-h200/runs/none'],
            "'a' names two members",
        ),
        (['a=ccp/runs/none', '--metric', 'AP'], '--metric AP: the runs have'),
    ],
)
def test_side_by_side_says_what_does_not_fit(
    members, message, monkeypatch, capsys
):
    monkeypatch.chdir(overview.RESULTS)
    with pytest.raises(SystemExit) as caught:
        side_by_side.main(members)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_side_by_side_needs_common_seeds(tmp_path, capsys):
    for seed in 0, 1:
        source = overview.RESULTS / f'ccp/runs/none/seed-{seed}'
        shutil.copytree(source, tmp_path / f'{seed}/none/seed-{seed}')
    with pytest.raises(SystemExit):
        side_by_side.main([f'{n}={tmp_path}/{n}/none' for n in (0, 1)])
    said = capsys.readouterr().err
    assert '1 has seeds [1], the first member [0]: none in common' in said


@pytest.fixture
def images(tmp_path):
    """Two classes of dots in two colours."""
    for label, name in enumerate(('dark', 'light')):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for i in range(4):
            array = torch.randint(100 * label, 100 * label + 90, (32, 32, 3))
            image = Image.fromarray(array.byte().numpy())
            image.save(tmp_path / f'images/{name}/{i}.png')
    return str(tmp_path / 'images')


def test_gan_trains_once(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        gan,
        'TrainedHereExtractor',
        lambda data: TrainedHereExtractor(data, max_iters=3, batch_size=4),
    )
    monkeypatch.chdir(tmp_path)
    sizes = ['--iters', '2', '--width', '2', '--batch-size', '4']
    command = ['gan', '--out', 'out', 'train', images, *sizes]

    def lines(*members):
        monkeypatch.setattr(sys, 'argv', [*command, '--members', *members])
        gan.main()
        text = Path('out/runs.jsonl').read_text()
        return [json.loads(line) for line in text.splitlines()]

    first = lines('none')
    assert [line['member'] for line in lines('none', 'external')] == [
        'none', 'external',
    ]  # fmt: skip
    assert lines('none')[0] == first[0]  # not trained again
    line = first[0]
    assert line['iters'] == 2 and line['frechet_distance_trained_here'] > 0
    assert 1 <= line['inception_score_trained_here'] <= 2
    assert Path('out/none-0.png').stat().st_size > 1000


def test_gan_cost(tmp_path, monkeypatch):
    options = ['cost', '--channels', '16', '--sizes', '8']
    monkeypatch.setattr(sys, 'argv', ['gan', '--out', str(tmp_path), *options])
    gan.main()
    with (tmp_path / 'cost.csv').open() as file:
        rows = {(r['member'], r['mode']): r for r in csv.DictReader(file)}
    assert len(rows) == 4
    # 1.25 C^2 for each token, and its 16 pooled keys and values.
    macs = 64 * (1.25 * 16**2 + 16 * (16 / 8 + 16 / 2))
    assert int(rows['self', 'inference']['macs']) == macs
    # Two projections, and 64 slots in two memories.
    macs = 64 * (2 * 16**2 + 2 * 64 * 16)
    assert int(rows['external', 'inference']['macs']) == macs


def test_scaling(monkeypatch, capsys):
    pytest.importorskip('mmseg')
    found = dict(parameters=3_000_000, trained=2_000_000, macs=10**10)
    monkeypatch.setattr(scaling, 'complexity', lambda cfg, size: found)
    row = scaling.cost('ea_fpn_ade20k.py', 'ADE20K')
    assert row['step'] == 6e10 and row['epoch'] == 6e10 * 20_210
    assert row['gradients'] == 8e6
    # SGD with momentum: thrice the trained, once the frozen.
    assert row['ddp'] == 4 * (3 * 2e6 + 1e6)
    assert row['fsdp'] == row['ddp'] / 8 + 4 * (3e6 + 2e6)
    args = argparse.Namespace(tflops=1, inside=2, between=1, per_machine=8)
    steps = 20_210 / 4 / 3600
    compute = 4 * 0.06
    assert scaling.hours(row, 20_210, 1, args) == pytest.approx(
        steps * compute
    )
    # Two machines of 8 GPUs.
    exchange = 2 * 7 / 8 * 8e6 / 2e9 + 2 * 1 / 2 * 8e6 / 1e9
    assert scaling.hours(row, 20_210, 16, args) == pytest.approx(
        steps / 16 * (compute + exchange)
    )
    monkeypatch.setattr(sys, 'argv', ['scaling', '--only', 'ea_fpn_ade'])
    scaling.main()
    out = capsys.readouterr().out
    assert '| `ea_fpn_ade20k` | 4 | 3.0 | 60 | 1.2 | 8 | 0.03 | 0.02 |' in out
    assert 'COCO' not in out


def test_allocator(monkeypatch, capsys):
    allocator = pytest.importorskip('benchmarks.allocator')
    step = f'block, {blocks.OURS}, training'
    small = blocks, (blocks.OURS, 4, 'training')
    monkeypatch.setitem(allocator.STEPS, step, small)
    seen = []

    def run(command, env, **_):
        seen.append({k: env.get(k) for k in allocator.KEEP | allocator.HUGE})
        monkeypatch.setattr(sys, 'argv', command[2:])
        allocator.main()
        return argparse.Namespace(stdout=capsys.readouterr().out)

    monkeypatch.setattr(allocator.subprocess, 'run', run)
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)
    # What the shell has set is not measured as "as it is".
    monkeypatch.setenv('MALLOC_MMAP_MAX_', '7')
    found = allocator.launch(step, {}, 1)
    assert found['seconds'] > 0 and found['peak'] > 2**26
    allocator.launch(step, allocator.HUGE, 1)
    nothing = dict.fromkeys(allocator.KEEP | allocator.HUGE)
    assert seen == [nothing, nothing | allocator.HUGE]

    rows = {
        (step, 'as it is'): [dict(seconds=t, peak=2**30) for t in (1, 3, 8)],
        (step, 'huge pages'): [dict(seconds=2, peak=2**29)],
    }
    assert allocator.table(rows)[1] == [
        [step, 'as it is', '3 (1 to 8)', '1.00', '1.00'],
        [step, 'huge pages', '2 (2 to 2)', '1.50', '0.50'],
    ]
