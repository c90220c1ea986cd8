import pytest

from mmea import profiling
from mmea.compare.cost import measure_costs
from mmea.compare.members import all_members

MEMBERS = {
    'external': dict(type='mmea.ExternalAttention2d', num_slots=4),
    'non-local': dict(type='mmea.NonLocal2d'),
}


def test_costs():
    rows = list(measure_costs(MEMBERS, 8, [6, 4], rounds=1))
    keys = [(row['mode'], row['size'], row['member']) for row in rows]
    assert keys == [
        (mode, size, member)
        for mode in ('inference', 'training')
        for size in (4, 6)
        for member in MEMBERS
    ]
    found = dict(zip(keys, rows))
    # Four projections between C and C / 2, two products of N x N and C / 2.
    row = found['inference', 6, 'non-local']
    assert row['macs'] == 36 * 4 * 8 * 4 + 2 * 36 * 36 * 4
    assert row['parameters'] == 4 * 8 * 4 + 3 * 4 + 8
    assert row['seconds'] > 0
    # The N x N map at least.
    assert row['memory'] >= 36 * 36 * 4
    assert found['training', 6, 'non-local']['saved'] >= 36 * 36 * 4
    assert found['training', 6, 'external']['saved'] < 36 * 36 * 4


def test_every_member_can_be_counted():
    members = {name: dict(type=f'mmea.{name}') for name in all_members()}
    rows = list(measure_costs(members, 8, [4], rounds=1))
    assert {(row['mode'], row['member']) for row in rows} == {
        (mode, name) for mode in ('inference', 'training') for name in members
    }
    assert all(row['macs'] > 0 for row in rows)


def test_what_would_take_too_long_is_left_out(monkeypatch):
    seconds = {'external': 1.0, 'non-local': 4.0}
    monkeypatch.setattr(
        profiling,
        'time_steps',
        lambda steps, *_, **__: {s: seconds[s] for s in steps},
    )
    rows = list(measure_costs(MEMBERS, 8, [4, 8, 16], limit=40))
    left = {(row['member'], row['size']) for row in rows}
    # Quadratic as long as one size is known: 16 seconds, 64 seconds.
    assert left == {
        ('external', 4),
        ('external', 8),
        ('external', 16),
        ('non-local', 4),
    }


def test_a_wrong_argument():
    member = dict(type='mmea.ExternalAttention2d', num_slot=4)
    with pytest.raises(TypeError, match='num_slot is no argument'):
        next(measure_costs({'x': member}, 8, [4]))


def test_a_map_beyond_memory_is_told_first():
    with pytest.raises(ValueError, match='200000 x 200000 tokens .* smaller'):
        next(measure_costs(MEMBERS, 64, [4, 200000]))
