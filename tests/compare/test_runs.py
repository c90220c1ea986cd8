import json
from contextlib import closing, nullcontext

import pytest
from mmengine.config import Config

from mmea.compare import runs
from mmea.compare.accuracy import accuracy_tables
from mmea.compare.run_files import check_configs, find_results
from mmea.compare.runs import Run, train_runs
from mmea.errors import UserError


class Stub:
    """A run that takes some turns."""

    def __init__(self, turns, result=None):
        self.turns, self.result = turns, result
        self.started = None
        self.stopped = False

    def start(self, threads, gpu):
        self.started = (threads, gpu)

    @property
    def running(self):
        return self.started is not None and not self.stopped and self.turns > 0

    def stop(self):
        self.stopped = True


@pytest.fixture(autouse=True)
def time_flies(monkeypatch):
    monkeypatch.setattr(runs.time, 'sleep', lambda seconds: None)


def test_some_at_a_time_each_on_its_gpu():
    stubs = [Stub(3), Stub(1), Stub(2, result=dict(mIoU=1.0)), Stub(2)]
    seen = []
    for active in train_runs(stubs, jobs=2, gpus=2, threads=4):
        seen.append([stubs.index(stub) for stub in active])
        for stub in active:
            stub.turns -= 1
    # The third had its result; the fourth takes the place of the second.
    assert seen == [[0, 1], [0, 3], [0, 3]]
    assert [stub.started for stub in stubs] == [(4, 0), (4, 1), None, (4, 1)]


def test_a_break_stops_what_is_running():
    stubs = [Stub(5), Stub(5), Stub(5)]
    with pytest.raises(KeyboardInterrupt):
        with closing(train_runs(stubs, jobs=2)) as turns:
            for _ in turns:
                raise KeyboardInterrupt
    assert [stub.stopped for stub in stubs] == [True, True, False]


FACTS = dict(versions=dict(torch='2.0'), data='abc')


def make_run(folder, facts=FACTS, **more) -> Run:
    train_cfg = dict(max_iters=3)
    cfg = Config(dict(model=dict(type='Net'), train_cfg=train_cfg) | more)
    return Run('a:b=1', 3, cfg, folder, facts, dict(parameters=7, macs=8))


def test_a_run_reads_what_was_logged(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    assert (run.step, run.result, run.error) == (0, None, None)
    folder = tmp_path / 'a_b=1/seed-3'
    scalars = folder / 'work/2026/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    lines = [
        dict(loss=1.0, time=t, step=i, peak_memory=100.0 * t)
        for i, t in enumerate([9, 1, 2])
    ]
    lines.insert(1, dict(mIoU=5.0, time=7, data_time=7, step=1))
    lines.append(dict(mIoU=8.5, aAcc=9.0, time=7, data_time=7, step=2))
    text = '\n'.join(map(json.dumps, lines))
    scalars.write_text(text + '\n{"loss": 0.1, "ti')  # is being written
    assert run.step == 2
    monkeypatch.setattr(runs.subprocess, 'Popen', lambda *args, **kw: None)
    run.start(threads=2)
    run._process = type('Ended', (), dict(poll=lambda self: 0))()
    want = dict(
        member='a:b=1',
        seed=3,
        metrics=dict(mIoU=8.5, aAcc=9.0),
        length='3 iterations',
        seconds_per_iteration=2,
        seconds_per_evaluated_image=7,
        peak_memory=900.0,
        threads=2,
        parameters=7,
        macs=8,
        facts=FACTS,
    )
    assert run.result == want
    # Later without the process, and nothing but two small files.
    for path in [scalars, folder / 'facts.json']:
        path.unlink()
    assert make_run(tmp_path).result == want
    assert find_results(tmp_path, FACTS) == [want]
    with pytest.raises(UserError, match='data: abc, now x.*another --out'):
        find_results(tmp_path, dict(FACTS, data='x'))
    (folder / 'result.json').write_text('{"member": ')
    with pytest.raises(UserError, match='result.json is damaged'):
        find_results(tmp_path, FACTS)


def test_a_run_goes_on_from_its_own_folder(tmp_path, monkeypatch):
    """Threads and GPU are those given; what was broken off is resumed."""
    started = {}
    monkeypatch.setattr(
        runs.subprocess,
        'Popen',
        lambda *args, **kw: started.update(kw, a=args),
    )
    run = make_run(tmp_path)
    run.start(threads=3, gpu=1)
    member = tmp_path / 'a_b=1'
    command = ['-m', 'mmea.train', str(member / 'config.py'), '--resume']
    command += ['--work-dir', str(member / 'seed-3/work')]
    command += ['--cfg-options', 'randomness.seed=3']
    assert started['a'][0][1:] == command
    assert started['env']['OMP_NUM_THREADS'] == '3'
    assert started['env']['CUDA_VISIBLE_DEVICES'] == '1'
    # Another number would round otherwise.
    make_run(tmp_path).start(threads=8)
    assert started['env']['OMP_NUM_THREADS'] == '3'


def test_a_run_without_an_evaluation(tmp_path):
    run = make_run(tmp_path)
    run._process = type('Ended', (), dict(poll=lambda self: 0))()
    with pytest.raises(UserError, match='has no evaluation'):
        _ = run.result


def test_a_run_shorter_than_the_interval_of_its_log(tmp_path):
    run = make_run(tmp_path, train_cfg=dict(max_epochs=1))
    scalars = run.folder / 'work/2026/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    scalars.write_text('{"mIoU": 5.0, "time": 7, "step": 1}\n')
    run._process = type('Ended', (), dict(poll=lambda self: 0))()
    result = run.result
    assert result['metrics'] == dict(mIoU=5.0)
    assert result['seconds_per_iteration'] is None
    assert result['length'] == '1 epochs'
    text = accuracy_tables([dict(result, macs=1)], ['mIoU'], ['none'])
    assert text[0] == 'Trained: 1 epochs.'
    rows = [dict(result, macs=1, threads=n) for n in (2, 1)]
    text = accuracy_tables(rows, ['mIoU'], ['none'])
    assert text[0] == 'Trained: 1 epochs. Threads of a run: 1, 2.'
    assert text[-2].split('|')[-3].strip() == '-'


def test_a_detector_that_finds_nothing(tmp_path):
    """mmdet then gives no metric at all: a run that failed, not the others."""
    run = make_run(tmp_path)
    scalars = run.folder / 'work/2026/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    lines = [dict(loss=1.0, time=1, step=1), dict(time=7, step=1)]
    scalars.write_text('\n'.join(map(json.dumps, lines)))
    run._process = type('Ended', (), dict(poll=lambda self: 0))()
    assert run.result is None
    assert 'finds nothing: train longer' in run.error


def test_a_folder_belongs_to_one_config(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path)
    with pytest.raises(UserError, match=r'config \(model.type: Net, now Not'):
        make_run(tmp_path, model=dict(type='Not'))
    # What has not ended yet neither.
    with pytest.raises(UserError, match=r'versions.torch: 2.0, now 2.1\)'):
        make_run(tmp_path, facts=dict(FACTS, versions=dict(torch='2.1')))


def test_members_are_trained_alike(tmp_path):
    make_run(tmp_path)
    cfg = Config(dict(model=dict(type='Other'), train_cfg=dict(max_iters=3)))
    check_configs(tmp_path, cfg)
    cfg.train_cfg.max_iters = 4
    with pytest.raises(UserError, match=r'train_cfg.max_iters: 3, now 4\)'):
        check_configs(tmp_path, cfg)


def test_a_difference_in_a_list_is_named_alone(tmp_path):
    cfg = Config(dict(hooks=[dict(type='A'), dict(type='B', rates=[1, 2])]))
    (tmp_path / 'member').mkdir()
    cfg.dump(tmp_path / 'member/config.py')
    check_configs(tmp_path, cfg)
    cfg.hooks[1].rates = [1, 3]
    with pytest.raises(UserError, match=r'\(hooks.1.rates.1: 2, now 3\)'):
        check_configs(tmp_path, cfg)
    cfg.hooks = cfg.hooks[:1]
    with pytest.raises(UserError, match=r'\(hooks: \[.*B.*\], now \['):
        check_configs(tmp_path, cfg)


RESULT = dict(
    member='a:b=1',
    seed=3,
    metrics=dict(mIoU=5.0),
    peak_memory=1.0,
    seconds_per_iteration=None,
    parameters=7,
    macs=8,
    facts=FACTS,
)


@pytest.mark.parametrize(
    'change',
    [
        dict(seed='3'),
        dict(metrics={}),
        dict(metrics=None),
        dict(metrics=dict(mIoU='5')),
        dict(metrics=dict(mIoU=None)),
        dict(peak_memory=[1]),
        dict(peak_memory=None),
        dict(seconds_per_iteration='2'),
        dict(macs='8'),
        dict(length=3),
        dict(facts=None),
    ],
)
def test_a_result_that_cannot_be(tmp_path, change):
    run = make_run(tmp_path)
    path = run.folder / 'result.json'
    path.write_text(json.dumps(RESULT))
    assert find_results(tmp_path, FACTS) == [RESULT]
    path.write_text(json.dumps(RESULT | change))
    with pytest.raises(UserError, match='result.json is damaged; remove it'):
        find_results(tmp_path, FACTS)
    for name in change:
        less = {k: v for k, v in RESULT.items() if k != name}
        path.write_text(json.dumps(less))
        # Older runs do not tell it.
        with nullcontext() if name == 'length' else pytest.raises(UserError):
            find_results(tmp_path, FACTS)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(seed=4), 'is of a:b=1, seed 4: name its folder a_b=1/seed-4'),
        (dict(member='Foo'), 'is of Foo, seed 3: name its folder Foo/seed-3'),
    ],
)
def test_a_result_of_another_folder(change, message, tmp_path):
    run = make_run(tmp_path)
    (run.folder / 'result.json').write_text(json.dumps(RESULT | change))
    with pytest.raises(UserError, match=message):
        find_results(tmp_path, FACTS)


@pytest.mark.parametrize('text', ['', '[]', 'null', '{"a"'])
def test_damaged_files_of_a_run(tmp_path, text):
    run = make_run(tmp_path)
    (run.folder / 'facts.json').write_text(text)
    with pytest.raises(UserError, match='facts.json is damaged'):
        make_run(tmp_path)
    (run.folder / 'threads.json').write_text(text)
    with pytest.raises(UserError, match='threads.json is damaged'):
        run.start(threads=1)
    (run.folder.parent / 'config.py').write_text('a = (')
    with pytest.raises(UserError, match='cannot read .*config.py, remove'):
        make_run(tmp_path)


def test_runs_of_two_devices_are_not_mixed(tmp_path):
    make_run(tmp_path)  # an older one, which tells no device
    make_run(tmp_path, facts=dict(FACTS, device='cpu'))
    (tmp_path / 'a_b=1/seed-3/facts.json').unlink()
    make_run(tmp_path, facts=dict(FACTS, device='cpu'))
    with pytest.raises(UserError, match=r'\(device: cpu, now H100\)'):
        make_run(tmp_path, facts=dict(FACTS, device='H100'))


def test_a_training_that_was_left_behind(tmp_path, hold):
    """By a comparison that was killed: it is named, and not started again."""
    run = make_run(tmp_path)
    (run.folder / 'work').mkdir()
    hold(run.folder / 'work')
    with pytest.raises(UserError, match='another training works in .*work'):
        run.start(threads=1)
    assert not run.log.exists()
