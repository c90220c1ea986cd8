import pytest
from mmengine.config import Config

from mmea.compare.members import (
    all_members,
    config_with,
    host_of,
    parse_member,
    parse_members,
)
from mmea.engine.config import load_config
from mmea.errors import UserError


def test_all_members_are_the_layers_on_maps():
    members = all_members()
    assert 'ExternalAttention2d' in members and 'HaloAttention2d' in members
    assert 'MultiheadExternalAttention' not in members  # on tokens
    assert 'AttentionBlock2d' not in members  # no system
    assert len(members) >= 10


def test_parse_member():
    external = dict(type='mmea.ExternalAttention2d')
    assert parse_member('ExternalAttention2d') == external
    assert parse_member('mmea.ExternalAttention2d') == external
    assert parse_member('ExternalAttention2d:num_slots=8,eps=1e-3') == dict(
        external, num_slots=8, eps=1e-3
    )
    assert parse_member('ELSA2d:kernel_size=[3,5],groups=(2,4)') == dict(
        type='mmea.ELSA2d', kernel_size=[3, 5], groups=(2, 4)
    )
    assert parse_member('none') is None
    control = dict(external, over_tokens=False)
    assert parse_member('control') == control
    assert parse_member('control:num_slots=8') == dict(control, num_slots=8)


@pytest.mark.parametrize(
    'text, message',
    [
        (
            'External',
            'no member .External.: choose among none, control, CATT2d',
        ),
        ('none:num_slots=8', 'none takes no arguments'),
        ('NonLocal2d:reduction=1,reduction=2', 'reduction is twice'),
        ('NonLocal2d:type=Foo', "type is what makes 'NonLocal2d'"),
        ('control:over_tokens=True', "over_tokens is what makes 'control'"),
        ('ExternalAttention2d:num_slots', 'num_slots.* is not KEY=VALUE'),
    ],
)
def test_a_wrong_member(text, message):
    with pytest.raises(UserError, match=message):
        parse_member(text)


def test_two_names_of_one_member():
    """A default said is one; what a config may say otherwise is not."""
    external = 'ExternalAttention2d'
    for said in 'num_slots=64', 'eps=1e-9,num_slots=64':
        with pytest.raises(UserError, match=f"'{external}' and .* are one"):
            parse_members([external, f'{external}:{said}'])
    for other in 'num_slots=8', 'norm_cfg=None', 'with_cp=False':
        assert len(parse_members([external, f'{external}:{other}'])) == 2


def test_config_with_replaces_every_attention_and_keeps_what_all_take():
    norm = dict(type='BN')
    cfg = Config(
        dict(
            model=dict(
                neck=[
                    dict(type='FPN'),
                    dict(
                        type='mmea.EANeck',
                        attention=dict(type='mmea.ExternalAttention2d'),
                    ),
                ],
                decode_head=dict(
                    attention=dict(
                        type='mmea.ExternalAttention2d',
                        num_slots=32,
                        norm_cfg=norm,
                    )
                ),
            )
        )
    )
    before = cfg.pretty_text
    member = dict(type='mmea.NonLocal2d', mode='gaussian')
    model = config_with(cfg, member).model
    assert model.decode_head.attention == dict(member, norm_cfg=norm)
    assert model.neck[1].attention == member
    # But the member's own word is the last.
    own = dict(member, norm_cfg=dict(type='GN', num_groups=2))
    assert config_with(cfg, own).model.decode_head.attention == own
    model = config_with(cfg, None).model
    assert model.decode_head.attention is None
    assert model.neck[1].attention is None
    assert cfg.pretty_text == before


def test_config_with_swaps_where_no_attention_is_named(tmp_path):
    path = tmp_path / 'x.py'
    path.write_text("model = dict(type='EncoderDecoder', neck=dict(num=3))")
    cfg = Config.fromfile(path)
    before = cfg.pretty_text
    member = dict(type='mmea.NonLocal2d')
    model = config_with(cfg, member).model
    assert model.type == 'mmea.SwapAttention'
    assert model.model.type == 'EncoderDecoder'
    assert model.neck.num == 3
    assert model.rules == [dict(source='any', target=member)]
    # As by --swap-attention.
    assert load_config(str(path), swap='mmea.NonLocal2d').model == model
    assert cfg.pretty_text == before
    with pytest.raises(UserError, match='x.py has no attention=dict'):
        config_with(cfg, None)


def test_config_that_swaps_already_is_refused(tmp_path):
    path = tmp_path / 'x.py'
    path.write_text(
        "rules = [dict(source='any', target=dict(type='mmea.NonLocal2d'))]\n"
        "model = dict(type='mmea.SwapAttention', rules=rules,\n"
        "             model=dict(type='EncoderDecoder'))"
    )
    cfg = Config.fromfile(path)
    with pytest.raises(UserError, match='x.py swaps the attention itself'):
        config_with(cfg, dict(type='mmea.CATT2d'))


def test_the_host_is_what_all_members_share():
    attention = dict(type='mmea.ExternalAttention2d')
    model = dict(neck=[dict(attention=attention)], head=dict(channels=8))
    cfg = Config(dict(model=model))
    assert host_of(cfg) == dict(
        neck=[dict(attention=None)], head=dict(channels=8)
    )
    assert cfg.model.neck[0].attention == attention
    # What a swap will replace is there still.
    plain = Config(dict(model=dict(type='EncoderDecoder')))
    assert host_of(plain) == plain.model
