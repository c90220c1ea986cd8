"""Parts inside of whole checkpoints, and what is wrong with a file."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmea.convert import SOURCES, convert, untouched
from mmea.convert.rename import find_places, group, match, rename

#: Of what has another name in the same file: PCT's keys are its queries, and
#: an older StudioGAN has embeddings for gain and bias.
SECOND_NAMES = ('k_conv.', 'embed0.', 'embed1.')


def example(source: str) -> dict[str, torch.Tensor]:
    """One entry for every name of ours, of a size that all rules take."""
    names = {}
    for old, new in SOURCES[source].rules.items():
        end = 'weight' if old.endswith('.') else ''
        names.setdefault(new + end, old.replace('*', '1') + end)
    state = {name: torch.randn(12, 12) for name in names.values()}
    for name in state:
        state[name] = state[name.replace('k_conv.', 'q_conv.')]
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(3)
    return state


def same(got: dict, want: dict):
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize('source', SOURCES)
def test_no_two_names_become_one(source):
    state = example(source)
    found = match(state, SOURCES[source].rules)
    assert len(set(found.values())) == len(found) == len(state)
    # Keys and values in one layer are two here.
    halves = sum(name.startswith(('kv.', 'to_kv.')) for name in state)
    again = sum(any(n in name for n in SECOND_NAMES) for name in state)
    assert len(convert(state, source)) == len(state) + halves - again


WORDS = st.text('abnz_019', min_size=1, max_size=6)
PREFIXES = st.lists(WORDS, min_size=1, max_size=4).map('.'.join)


@settings(deadline=None, max_examples=50)
@given(source=st.sampled_from(sorted(SOURCES)), prefix=PREFIXES)
def test_a_prefix_changes_nothing_else(source, prefix):
    assume(not prefix.startswith('kept'))
    part = example(source)
    want = convert(part, source)
    kept = {'kept.conv1.weight': torch.randn(2), 'x': torch.randn(1)}
    state = {f'{prefix}.{name}': value for name, value in part.items()}
    under = {f'{prefix}.{name}': value for name, value in want.items()}
    for dot in ('', '.'):
        got = convert(kept | state, source, prefix + dot)
        same(got, kept | under)
        assert untouched(kept | state, source, prefix + dot) == list(kept)


@settings(deadline=None, max_examples=50)
@given(source=st.sampled_from(sorted(SOURCES)), prefix=PREFIXES)
def test_a_pattern_is_its_prefixes_in_turn(source, prefix):
    state, want = {}, {}
    for i in range(3):
        part = example(source)
        state |= {f'{prefix}.{i}.{name}': part[name] for name in part}
        if i < 2:
            part = convert(part, source)
        want |= {f'{prefix}.{i}.{name}': part[name] for name in part}
    same(convert(state, source, f'{prefix}.[01].'), want)


@pytest.mark.parametrize('source', SOURCES)
def test_a_part_begins_as_early_as_it_can(source):
    """Some names of a part are names without their first word, too."""
    part = example(source)
    state = {f'zz.{name}': value for name, value in part.items()}
    same(convert(state, source, '*'), convert(state, source, 'zz.'))


def test_rules():
    rules = {'a.*.b.': 'x*.y.', 'c*d.e': 'f.*', 'a.0.b.': 'never.'}
    assert rename('a.0.b.c.d', rules) == 'x0.y.c.d'
    assert rename('c12d.e', rules) == 'f.12'
    for name in ('a.0.1.b.c', 'a.0.b.', 'a.0.b', 'cd.e', 'c1dxe', 'c.d.e'):
        assert rename(name, rules) is None


def test_elsa_under_a_pattern():
    """An attn inside of an attn: the part begins at the first."""
    state = {
        f'layers.{i}.attn.{name}': value
        for i in range(2)
        for name, value in example('elsa').items()
    }
    got = convert(state, 'elsa', '*.attn.')
    assert 'layers.1.attn.attn_conv.weight' in got
    assert got.keys() == convert(state, 'elsa', '*').keys()
    assert find_places(state, SOURCES['elsa'].rules) == ['layers.*.attn.']
    # One that is not like the others is none, and stops the conversion.
    state['layers.1.attn.rb'] = torch.ones(1)
    assert find_places(state, SOURCES['elsa'].rules) == ['layers.0.attn.']
    with pytest.raises(
        ValueError,
        match=r"'layers.1.attn.rb' is no name of 'elsa' \(of 1 such.*"
        "under the prefix 'layers.0.attn.'$",
    ):
        convert(state, 'elsa', 'layers.*.attn.')


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_wrapped(key):
    part = example('eanet_block')
    file = {key: {'module.a.' + k: v for k, v in part.items()}, 'epoch': 3}
    want = {'a.' + k: v for k, v in convert(part, 'eanet_block').items()}
    same(convert(file, 'eanet_block', 'a.'), want)
    assert untouched(file, 'eanet_block', 'a.') == []


# What is wrong with a file: entries, prefix, words of the error.
X = torch.ones(3, 4, 1)
BAD = {
    'not a state_dict': ([X], '', "names to tensors, got <class 'list'>"),
    'wrapped in other words': (
        {'net': {'mk.weight': X}},
        '',
        "'net' is a dict; give what holds the tensors",
    ),
    'a number beside them': ({'mk.weight': X, 'epoch': 1}, '', "'epoch'.*int"),
    'parallel and not': (
        {'module.mk.weight': X, 'mk.weight': X},
        '',
        "'mk.weight' is there with and without module.; remove one",
    ),
    'converted in part': (
        {'a.mk.weight': X, 'a.key_memory': X},
        'a.',
        "'a.mk.weight' and 'a.key_memory' would both be 'a.key_memory'",
    ),
    'converted': (
        {'a.key_memory': X, 'a.value_memory': X},
        'a.',
        "prefix='a.' has no name of 'ea_core'; close prefixes: a.; names of "
        "'ea_core' begin with mk.weight, mv.weight",
    ),
    'another prefix': (
        {'head.block.mk.weight': X, 'head.conv.weight': X},
        'head.blok.',
        "prefix='head.blok.' has no name.*under the prefix 'head.block.'$",
    ),
    'no such prefix': (
        {'head.block.w': X, 'head.conv.weight': X},
        'head.blok.',
        'close prefixes: head.block.',
    ),
    'prefix left out': (
        {'head.3.mk.weight': X, 'head.4.mv.weight': X, 'head.w': X},
        '',
        r"'head.3.mk.weight' is no name of 'ea_core' \(of 3 such names: "
        r"head.3.mk.weight, head.4.mv.weight, head.w\).*'head.\*.'",
    ),
    'more than the source has': (
        {'mk.weight': X, 'fc.weight': X, 'fc.bias': X},
        '',
        r"'fc.weight' is no name.*\(of 2 such names: fc.weight, fc.bias\).*"
        'another source.*eanet_block',
    ),
    'shape': (
        {'mk.weight': torch.ones(3, 4, 2)},
        '',
        r"'mk.weight' of shape \(3, 4, 2\) is not of 'ea_core'",
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_files(case):
    state, prefix, words = BAD[case]
    for function in (convert, untouched)[: 1 if case == 'shape' else 2]:
        with pytest.raises(ValueError, match=words) as error:
            function(state, 'ea_core', prefix)
        assert '\n' not in str(error.value)


def test_bad_shapes_of_a_part():
    state = {
        'q.weight': torch.ones(4, 3, 1, 1),
        'kv.weight': torch.ones(7, 3, 1, 1),
        'pos_embed.height_rel': torch.ones(5, 2),
    }
    state = {'a.' + name: value for name, value in state.items()}
    with pytest.raises(ValueError, match="under 'a.' are not of 'timm_halo'"):
        convert(state, 'timm_halo', 'a')


def test_two_names_of_one():
    state = {'phi.conv.weight': X, 'phi.0.conv.weight': X}
    with pytest.raises(
        ValueError,
        match="'phi.conv.weight' and 'phi.0.conv.weight' would both be "
        "'key_proj.weight'; remove one",
    ):
        convert(state, 'non_local')


def test_group():
    names = ['a.b.c', 'x', 'a.b.d.e', 'a.c.d', 'b.0.w']
    assert group(names) == 'a.b.* (2), x, a.c.d, b.0.w'
    assert group(names, 2) == 'a.b.* (2), x and 2 more'
