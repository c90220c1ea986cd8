"""LXMERT with CATT, against numbers recorded from the authors' code."""

import pytest
import torch

pytest.importorskip('transformers')

from transformers import LxmertConfig, LxmertForQuestionAnswering, LxmertModel
from transformers.models.lxmert.modeling_lxmert import (
    LxmertVisualFeatureEncoder,
    LxmertXLayer,
)

from examples.lxmert_catt import (
    CATTCrossLayer,
    CATTEncoder,
    add_catt,
    kmeans_dictionary,
)
from tests.host_oracle import host_cases
from tests.test_oracle import LIMIT, Case

WIDTHS = ('hidden_size', 'intermediate_size', 'num_attention_heads')


def make_config(**kwargs):
    none = dict(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    return LxmertConfig(**none, **kwargs)


def check(case, module, call):
    """Load, run and differentiate; compare outputs and all gradients."""

    def rename(name):
        same = case.meta['ctor'].get('bert_type') == 'ft_same'
        return (
            name.replace('attention.self', 'attention.att') if same else name
        )

    module.double().eval()
    module.load_state_dict(case.group('param/'))
    for name in case.group('input/'):
        if case.meta['inputs'][name]['differentiable']:
            case[f'input/{name}'].requires_grad_()
    outs = call(case.group('input/'))
    assert outs.keys() == case.group('output/').keys()
    for name, out in outs.items():
        case.compare(out, f'output/{name}')
    sum(
        (out * case[f'cotangent/{name}']).sum() for name, out in outs.items()
    ).backward()
    norms = case.meta['gradients'] == 'L2 norms only'
    kind = 'gradnorm/' if norms else 'grad/'
    got = {rename(name): p.grad for name, p in module.named_parameters()}
    got |= {
        'input' if name == 'x' else f'input/{name}': x.grad
        for name, x in case.group('input/').items()
        if x.requires_grad
    }
    untrained = {name for name, grad in got.items() if grad is None}
    assert untrained == set(case.meta['frozen_parameters'])
    largest = max(g.abs().max() for g in case.group(kind).values())
    for name, want in case.group(kind).items():
        grad = got[name].norm() if norms else got[name]
        # Of zero gradients rounding is left.
        scale = largest if name in case.meta['zero_gradients'] else 0
        scale = max(scale, want.abs().max())
        assert (grad - want).abs().max() < LIMIT * scale, name
    assert got.keys() - untrained == case.group(kind).keys()


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('catt_cross_layer_'))
def test_cross_layer(path):
    case = Case(path)
    ctor = case.meta['ctor']
    config = make_config(**{name: ctor[name] for name in WIDTHS})
    shared = ctor['bert_type'] == 'ft_same'
    layer = CATTCrossLayer(config, shared, ctor['cross_type'])

    def call(inputs):
        names = 'x', 'lang_mask', 'visn', None, 'M_lang', 'M_visn'
        outs = layer(*(name and inputs[name] for name in names))
        return dict(zip(('lang', 'visn', 'M_lang', 'M_visn'), outs))

    check(case, layer, call)


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('catt_encoder_'))
def test_encoder(path):
    case = Case(path)
    ctor = dict(case.meta['ctor'])
    form = 'ft_large' if ctor.pop('ft_large') else ctor['bert_type']
    del ctor['bert_type']
    encoder_kwargs = dict(
        cross=ctor.pop('cross_type'),
        lang_size=ctor.pop('ML_size'),
        visn_size=ctor.pop('MV_size'),
    )
    encoder = CATTEncoder(make_config(**ctor), form=form, **encoder_kwargs)

    def call(inputs):
        names = 'x', 'lang_mask', 'feats', 'boxes'
        (visn, _), (lang, _), _ = encoder(*(inputs[name] for name in names))
        return dict(lang=lang[-1], visn=visn[-1])

    check(case, encoder, call)


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('lxmert_cross_layer'))
def test_cross_layer_of_transformers(path):
    case = Case(path)
    layer = LxmertXLayer(make_config(**case.meta['ctor']))

    def call(inputs):
        outs = layer(inputs['x'], inputs['lang_mask'], inputs['visn'], None)
        return dict(zip(('lang', 'visn'), outs))

    check(case, layer, call)


@pytest.mark.oracle
@pytest.mark.parametrize('path', host_cases('lxmert_visual_encoder'))
def test_visual_encoder_of_transformers(path):
    case = Case(path)
    case.arrays['cotangent/y'] = case['cotangent']
    ctor = case.meta['ctor']
    heads = dict(num_attention_heads=1)
    encoder = LxmertVisualFeatureEncoder(make_config(**ctor, **heads))
    check(case, encoder, lambda i: dict(y=encoder(i['x'], i['boxes'])))


@pytest.mark.parametrize(
    ('form', 'millions'),
    [('ft', 283.5), ('ft_large', 368.6), ('ft_same', 186.6)],
)
def test_published_sizes(form, millions):
    with torch.device('meta'):
        encoder = CATTEncoder(LxmertConfig(), form=form)
    number = sum(p.numel() for p in encoder.parameters())
    assert round(number / 1e6, 1) == millions


SMALL = dict(
    hidden_size=12,
    intermediate_size=10,
    num_attention_heads=3,
    vocab_size=20,
    l_layers=2,
    r_layers=1,
    x_layers=2,
    visual_feat_dim=5,
    num_qa_labels=4,
)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return dict(
        input_ids=torch.randint(1, 20, (2, 7)),
        attention_mask=torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
        visual_feats=torch.rand(2, 6, 5),
        visual_pos=torch.rand(2, 6, 4),
    )


@pytest.mark.parametrize('form', ['ft', 'ft_large', 'ft_same'])
def test_a_stream_that_is_passed_on_trains_all(form, inputs):
    model = LxmertForQuestionAnswering(make_config(**SMALL))
    add_catt(
        model.lxmert, form=form, lang_size=5, visn_size=3, published=False
    )
    model(**inputs).question_answering_score.square().sum().backward()
    # The answer is read from the first word: the last layers of the regions
    # are behind it.
    last = 'lxmert.encoder.x_layers.1.'
    missing = {n for n, p in model.named_parameters() if p.grad is None}
    behind = {n for n in missing if n.startswith(last) and 'visn_' in n}
    assert missing - behind == {
        'lxmert.encoder.fc_visn.weight',
        'lxmert.encoder.fc_visn.bias',
    }


def test_it_keeps_the_weights_of_the_model(inputs):
    torch.manual_seed(0)
    model = LxmertModel(make_config(**SMALL)).eval()
    want = model(**inputs)
    same = {name: p.clone() for name, p in model.named_parameters()}
    add_catt(model, lang_size=5, visn_size=3)
    found = dict(model.named_parameters())
    assert all(torch.equal(found[name], p) for name, p in same.items())
    assert not model.encoder.training
    # Without the other stream it computes what it did.
    eye = torch.cat([torch.eye(12), torch.zeros(12, 12)], 1)
    for joined in (model.encoder.fc_lang, model.encoder.fc_visn):
        joined.weight.data.copy_(eye)
        joined.bias.data.zero_()
    got = model(**inputs)
    torch.testing.assert_close(got.language_output, want.language_output)
    torch.testing.assert_close(got.vision_output, want.vision_output)


def test_padding_is_not_read(inputs):
    torch.manual_seed(0)
    model = LxmertModel(make_config(**SMALL))
    add_catt(model, form='ft_large', lang_size=5, visn_size=3).eval()
    want = model(**inputs).pooled_output
    other = inputs['input_ids'].clone()
    other[1, 4:] = 3
    got = model(**inputs | dict(input_ids=other)).pooled_output
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ('kwargs', 'error'),
    [
        (dict(form='large'), "one of ft, ft_large, ft_same, got 'large'"),
        (dict(cross='l2l'), "one of g2g, g2l, got 'l2l'"),
        (dict(visn_size=0), 'visn_size must be at least 1, got 0'),
    ],
)
def test_bad_arguments(kwargs, error):
    with pytest.raises(ValueError, match=error):
        CATTEncoder(make_config(**SMALL), **kwargs)


def test_a_model_of_another_kind():
    with pytest.raises(TypeError, match='LxmertModel, such as the part'):
        add_catt(LxmertForQuestionAnswering(make_config(**SMALL)))


def test_layers_of_one_modality_are_needed():
    with pytest.raises(ValueError, match='at least 1, got 2, 0, 2'):
        CATTEncoder(make_config(**SMALL | dict(r_layers=0)))


def test_kmeans():
    pytest.importorskip('sklearn')
    centres = torch.tensor([[0.0, 9], [9, 0], [9, 9]])
    tokens = centres.repeat(20, 1) + torch.tensor(
        [[0.1, 0], [-0.1, 0]]
    ).repeat(30, 1)
    found = kmeans_dictionary(tokens, 3)
    assert found.shape == (1, 3, 2)
    assert found.dtype == tokens.dtype
    apart = torch.cdist(found[0], centres).min(0).values
    assert apart.max() < 0.11
    with pytest.raises(ValueError, match=r'got \(60, 2\) and size=61'):
        kmeans_dictionary(tokens, 61)
