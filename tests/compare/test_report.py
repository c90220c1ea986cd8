from mmea.compare import report

ROWS = [
    dict(
        member=member,
        mode=mode,
        size=size,
        seconds=0.001 * (size / 4) ** power,
        memory=1e6 * size,
        macs=2e9,
        parameters=1500,
        saved=5e5,
    )
    for member, power in (('linear', 2), ('quadratic', 4))
    for mode in ('inference', 'training')
    for size in (4, 8)
    if (member, size) != ('quadratic', 8)
]


def test_markdown():
    assert report.markdown(['a', 'b'], [['1', '[x]'], ['22', '']]) == [
        '| a  | b   |',
        '|----|-----|',
        '| 1  | [x] |',
        '| 22 |     |',
        '',
    ]


def test_cost_tables(tmp_path):
    text = '\n'.join(report.cost_tables(ROWS))
    assert '| linear    | 2     | 2     | 0.002    |' in text
    assert '| linear    | 1     | 4     | 1.00   |' in text
    assert '| quadratic | 1     | -     | -      |' in text
    report.plot_costs(ROWS, tmp_path / 'cost.png')
    assert (tmp_path / 'cost.png').read_bytes().startswith(b'\x89PNG')


def test_cost_of_several_processes_beside_a_baseline():
    rows = [dict(row, fastest=0.0005, slowest=0.25) for row in ROWS]
    rows = [
        r for r in rows if (r['member'], r['mode']) != ('linear', 'inference')
    ]
    text = '\n'.join(report.cost_tables(rows, 'quadratic'))
    inference, training = text.split('### Time, training')
    # Who was not measured in a mode is not in its tables.
    assert 'linear' not in inference
    assert '| linear    | 1 (0.5-250) | 4 (0.5-250) | 1.00   |' in training
    assert '### Times faster than quadratic, training' in training
    assert '| linear    | 1.00  | -     |' in training


def test_write_csv(tmp_path):
    report.write_csv([dict(a=1), dict(a=2, b='x')], tmp_path / 'x.csv')
    assert (tmp_path / 'x.csv').read_text() == 'a,b\n1,\n2,x\n'
