from mmea.compare import accuracy


def test_summarise():
    assert accuracy.summarise([3.0]) == '3.00 (1 run)'
    # The sample's standard deviation, not the population's.
    assert accuracy.summarise([1.0, 3.0]) == '2.00 ± 1.41 (2 runs)'


def test_plot_accuracy(tmp_path):
    results = {'none': [1.0, 2.0], 'external': [3.0]}
    accuracy.plot_accuracy(results, 'mIoU', tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes().startswith(b'\x89PNG')


def row(member: str, seed: int, miou: float, **classes: float) -> dict:
    metrics = {'mIoU': miou} | {f'IoU/{k}': v for k, v in classes.items()}
    return dict(
        member=member,
        seed=seed,
        metrics=metrics,
        parameters=12_345,
        macs=2_000_000_000,
        seconds_per_iteration=0.5,
        peak_memory=100.0 + seed,
    )


def cells(text: list[str], title: str) -> dict[str, list[str]]:
    """Lines of the first table behind a title, by their first cell."""
    start = text.index(title) if title else 0
    lines = [line for line in text[start:] if line.startswith('|')]
    found = {}
    for line in lines:
        name, *rest = [cell.strip() for cell in line.strip('|').split('|')]
        if name in found:  # the next table
            break
        found[name] = rest
    return found


ROWS = [
    row('none', 0, 10.0, sky=50.0, car=2.0),
    row('none', 1, 20.0, sky=50.0, car=4.0),
    row('external', 0, 11.0, sky=51.0),
    row('external', 1, 22.0, sky=53.0),
    row('external', 2, 90.0, sky=99.0),  # without a partner
]


def test_a_class_that_is_nowhere_has_no_iou():
    """IoUMetric's NaN: neither in the labels of a validation nor found."""
    nan = float('nan')
    rows = [
        row('none', 0, 10.0, sky=nan, car=nan),
        row('none', 1, 20.0, sky=nan, car=4.0),
        row('external', 0, 11.0, sky=nan, car=1.0),
        row('external', 1, nan, sky=nan, car=6.0),
    ]
    text = accuracy.accuracy_tables(rows, ['mIoU'], ['none'])
    assert cells(text, '')['external'][2:4] == ['11.00 (1 run)', '11.00']
    assert cells(text, '### mIoU, seed by seed')['external'] == ['+1.00']
    classes = cells(text, '### Each class')
    assert classes['sky'] == ['-', '-']
    assert classes['car'] == ['4.00', '3.50 ± 3.54']
    minus = cells(text, '### Each class, minus none')
    assert (minus['sky'], minus['car']) == (['-'], ['+2.00'])


def test_differences_are_those_of_pairs():
    text = accuracy.accuracy_tables(ROWS, ['mIoU'], ['none'])
    main = cells(text, '')
    assert main['external'] == [
        '0.0123',
        '2.000',
        '41.00 ± 42.79 (3 runs)',
        '11.00, 22.00, 90.00',
        '0.50 ± 0.00 (3 runs)',
        '102',
    ]
    pairs = cells(text, '### mIoU, seed by seed')
    # 1.5, and t(1) = 12.706 times 0.7071 / sqrt(2).
    assert pairs['external'] == ['+1.50 [-4.85, +7.85]']
    assert pairs['none'] == ['-']


def test_ap_is_in_points():
    rows = [row('none', 0, 50.0), row('none', 1, 50.0)]
    for i, one in enumerate(rows):
        one['metrics'] = {'coco/bbox_mAP': 0.175 + 0.02 * i, 'mIoU': 50.0}
    shown = accuracy.in_points(rows)
    assert rows[0]['metrics']['coco/bbox_mAP'] == 0.175
    text = accuracy.accuracy_tables(shown, ['coco/bbox_mAP', 'mIoU'], ['none'])
    assert cells(text, '')['none'][2:5] == [
        '18.50 ± 1.41 (2 runs)',
        '50.00 ± 0.00 (2 runs)',
        '17.50, 19.50',
    ]


def test_each_class():
    text = accuracy.accuracy_tables(ROWS, ['mIoU'], ['none'])
    means = cells(text, '### Each class')
    assert means['sky'] == ['50.00 ± 0.00', '67.67 ± 27.15']
    assert means['car'] == ['3.00 ± 1.41', '-']
    minus = cells(text, '### Each class, minus none')
    assert minus['sky'] == ['+2.00 [-10.71, +14.71]']
    assert minus['car'] == ['-']


def test_one_member_alone_has_nothing_to_be_compared_with():
    text = accuracy.accuracy_tables(ROWS[:2], ['mIoU'], ['none'])
    assert [line for line in text if line.startswith('###')] == [
        '### Each class'
    ]
