"""Against numbers recorded from the authors' implementations.

``MMEA_ORACLE_DIR`` names the folder of the case files (default: the copy in
tests/data); every file there of a known case is one test.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmea import layers
from mmea.convert import SOURCES, convert
from mmea.layers import ExternalAttention2d, MultiheadExternalAttention
from mmea.ops import (
    external_attention_block,
    low_memory_block,
    low_rank_block,
)

pytestmark = pytest.mark.oracle

LIMIT = 1e-10
FOLDER = Path(
    os.environ.get(
        'MMEA_ORACLE_DIR', Path(__file__).parent / 'data' / 'oracle'
    )
)


# What a target of the table of sources begins with.
CALL = re.compile(r'`(\w+)\((.*?)\)`')


def build(source: str, *args, **kwargs) -> nn.Module:
    """Build the layer of a source as the table of sources says."""
    name, said = CALL.match(SOURCES[source].target).groups()
    said = eval(f'dict({said})', dict(nn=nn))
    layer = getattr(layers, name)(*args, **said | kwargs)
    layer.built_for = source
    return layer


class Case:
    """One case file, its arrays as tensors."""

    def __init__(self, path: Path):
        with np.load(path, allow_pickle=False) as arrays:
            self.meta = json.loads(str(arrays['meta']))
            self.arrays = {
                name: torch.from_numpy(arrays[name])
                for name in arrays.files
                if name != 'meta'
            }
        self.x = self['input/x'].requires_grad_()

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.arrays[name]

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.arrays.items()
            if name.startswith(prefix)
        }

    def compare(self, got: torch.Tensor, name: str):
        want = self[name]
        assert got.shape == want.shape, name
        error = (got.detach() - want).abs().max() / want.abs().max()
        assert error < LIMIT, f'{name}: {error:.2e}'

    def check_module(
        self, module: nn.Module, source: str, call=None, some_buffers=False
    ):
        """Load, run and differentiate ``module``; compare everything.

        Of a large network not all buffers may be recorded.
        """
        if CALL.match(SOURCES[source].target):
            assert module.built_for == source
        module.double().train(self.meta['mode'] == 'train')
        module.load_state_dict(convert(self.group('param/'), source))
        for layer in module.modules():
            # What the environment variable asked for is what runs.
            if isinstance(layer, ExternalAttention2d):
                assert layer.choose_form(self.x)[0] == layer.form
            if isinstance(layer, MultiheadExternalAttention):
                assert layer.choose_form(1)[0] == layer.form
        outs = (call or module)(self.x)
        if isinstance(outs, torch.Tensor):
            outs = {'y': outs}
            self.arrays['cotangent/y'] = self['cotangent']
        for name, out in outs.items():
            self.compare(out, f'output/{name}')
        sum(
            (out * self[f'cotangent/{name}']).sum()
            for name, out in outs.items()
        ).backward()
        for name in self.group('input/'):
            grad = 'grad/input' if name == 'x' else f'grad/input/{name}'
            if grad in self.arrays:
                self.compare(self[f'input/{name}'].grad, grad)
        # Ours under our names, theirs converted to them.
        grads = {name: p.grad for name, p in module.named_parameters()}
        kind = 'grad/'
        if self.meta['gradients'] == 'L2 norms only':
            kind = 'gradnorm/'
            self.compare(self.x.grad.norm(), 'gradnorm/input')
            grads = {name: grad.norm() for name, grad in grads.items()}
        recorded = {
            name: value
            for name, value in self.group(kind).items()
            if name != 'input' and not name.startswith('input/')
        }
        want = convert(recorded, source)
        assert grads.keys() == want.keys()
        zero = convert(
            {name: recorded[name] for name in self.meta['zero_gradients']},
            source,
        )
        largest = max(g.abs().max() for g in want.values())
        for name, grad in grads.items():
            if name in zero:
                # Rounding, or what the eps of a normalisation leaves.
                error = (grad - zero[name]).abs().max()
                assert error < LIMIT * largest, name
                continue
            error = (grad - want[name]).abs().max() / want[name].abs().max()
            assert error < LIMIT, f'grad of {name}: {error:.2e}'
        after = convert(self.group('after/'), source)
        buffers = dict(module.named_buffers())
        if some_buffers:
            assert after and after.keys() < buffers.keys()
        else:
            assert self.meta['mode'] == 'eval' or (
                after.keys() == buffers.keys()
            )
        for name, value in after.items():
            torch.testing.assert_close(
                buffers[name], value, rtol=0, atol=LIMIT * value.abs().max()
            )


def check_block(case: Case):
    fixed = case.meta['fixed']
    block = build(
        'eanet_block',
        case.meta['ctor']['c'],
        num_slots=fixed['S'],
        eps=fixed['eps'],
    )
    block.norm.eps = fixed['bn_eps']
    block.norm.momentum = fixed['bn_momentum']
    case.check_module(block, 'eanet_block')


def check_core(case: Case):
    ops = [external_attention_block]
    if os.environ['MMEA_EA_FORM'] == 'low_rank':
        ops = [low_rank_block, low_memory_block]
    for op in ops:
        memories = {
            name: value.clone().requires_grad_()
            for name, value in convert(case.group('param/'), 'ea_core').items()
        }
        assert memories['key_memory'].shape == (
            case.meta['ctor']['S'],
            case.meta['ctor']['d_model'],
        )
        y, _ = op(
            case.x.mT,
            **memories,
            eps=case.meta['fixed']['eps'],
            residual=False,
        )
        case.compare(y.mT, 'output/y')
        case.x.grad = None
        (y.mT * case['cotangent']).sum().backward()
        case.compare(case.x.grad, 'grad/input')
        case.compare(memories['key_memory'].grad, 'grad/mk.weight')
        case.compare(memories['value_memory'].grad.t(), 'grad/mv.weight')


def check_head(case: Case):
    pytest.importorskip('mmseg')
    from mmseg.models.utils import resize

    from mmea.models import EAHead

    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    norm_cfg = dict(type='BN', eps=fixed['bn_eps'])
    head = EAHead(
        **ctor,
        attention=dict(
            type='mmea.ExternalAttention2d',
            num_slots=fixed['S'],
            eps=fixed['eps'],
            norm_cfg=norm_cfg,
            act_cfg=dict(type='ReLU'),
            zero_init=False,
        ),
        norm_cfg=norm_cfg,
        dropout_ratio=fixed['dropout2d'],
        align_corners=fixed['align_corners'],
    )
    case.check_module(
        head,
        'eanet_head',
        lambda x: resize(
            head([x]),
            case.meta['call']['size'],
            mode='bilinear',
            align_corners=head.align_corners,
        ),
    )


def check_loss(case: Case):
    pytest.importorskip('mmseg')
    from mmseg.models.losses import CrossEntropyLoss

    ctor = case.meta['ctor']
    loss = CrossEntropyLoss(reduction=ctor['reduction'])
    pixels = loss(
        case.x, case['input/label'], ignore_index=ctor['ignore_index']
    )
    y = pixels.mean(2).mean(1)
    case.compare(y, 'output/y')
    (y * case['cotangent']).sum().backward()
    case.compare(case.x.grad, 'grad/input')
    # What EANet's configs train with is the mean of it over the batch.
    mean = CrossEntropyLoss()(
        case.x, case['input/label'], ignore_index=ctor['ignore_index']
    )
    torch.testing.assert_close(mean, case['output/y'].mean())


def check_non_local(case: Case):
    layer = build('non_local', **case.meta['ctor'])
    case.check_module(layer, 'non_local')


def check_efficient(case: Case):
    kwargs = dict(case.meta['ctor'])
    kwargs['num_heads'] = kwargs.pop('head_count')
    layer = build('efficient_attention', **kwargs)
    case.check_module(layer, 'efficient_attention')


def check_linear(case: Case):
    _, _, mode = case.meta['case'].partition('_')
    layer = build('linear_attention', case.x.shape[1], mode=mode)
    case.check_module(layer, 'linear_attention')


def check_stand_alone(case: Case):
    ctor = case.meta['ctor']
    # The paper's operator has no code, and is not the table's.
    paper = {} if 'groups' in ctor else dict(channelwise=False)
    layer = build(
        'stand_alone_attention',
        ctor['in_channels'],
        out_channels=ctor['out_channels'],
        kernel_size=ctor['kernel_size'],
        num_heads=ctor.get('heads', ctor.get('groups')),
        share_tables=ctor.get('shared_relative_tables', False),
        **paper,
    )
    case.check_module(layer, 'stand_alone_attention')


def check_halo(case: Case):
    ctor = dict(case.meta['ctor'])
    sizes = dict(block_size=ctor['block_size'], halo_size=ctor['halo_size'])
    if 'heads' in ctor:
        width = ctor['heads'] * ctor['dim_head']
        layer = build(
            'halonet',
            ctor['dim'],
            num_heads=ctor['heads'],
            key_channels=width,
            value_channels=width,
            **sizes,
        )
        case.check_module(layer, 'halonet')
        return
    # False there by default, as in the table.
    scaled = dict(scale_position=True) if ctor['scale_pos_embed'] else {}
    layer = build(
        'timm_halo',
        ctor['dim'],
        out_channels=ctor['dim_out'],
        num_heads=ctor['num_heads'],
        key_channels=case.meta['fixed']['dim_head_qk'] * ctor['num_heads'],
        qkv_bias=ctor['qkv_bias'],
        **scaled,
        **sizes,
    )
    case.check_module(layer, 'timm_halo')


def check_elsa(case: Case):
    ctor = dict(case.meta['ctor'])
    layer = build('elsa', ctor.pop('dim'), **ctor)
    case.check_module(
        layer, 'elsa', lambda x: layer(x.movedim(3, 1)).movedim(1, 3)
    )


def check_multihead(case: Case):
    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    layer = build(
        'eamlp_attention',
        ctor['dim'],
        ctor['num_heads'],
        num_slots=fixed['S'],
        expansion=fixed['coef'],
        eps=fixed['eps'],
    )
    case.check_module(
        layer,
        'eamlp_attention',
        lambda x: layer(x, identity=torch.zeros_like(x)),
    )


def check_eamlp_block(case: Case):
    pytest.importorskip('mmcv')
    from mmea.models import EAMLP

    ctor = case.meta['ctor']
    net = EAMLP(
        dict(
            embed_dims=ctor['dim'],
            num_layers=1,
            num_heads=ctor['num_heads'],
            feedforward_channels=int(ctor['dim'] * ctor['mlp_ratio']),
        ),
        expansion=case.meta['fixed']['coef'],
    )
    case.check_module(net.blocks[0], 'eamlp_block')


def check_eamlp_tokens(case: Case):
    pytest.importorskip('mmcv')
    from mmea.models.backbones.tokens_to_token import TokenLayer

    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    layer = TokenLayer(
        ctor['dim'], ctor['in_dim'], num_slots=fixed['S'], eps=fixed['eps']
    )
    kind = case.meta['case'].removeprefix('t2t_')
    case.check_module(layer, f'eamlp_{kind}')


def check_eamlp(case: Case):
    pytest.importorskip('mmcv')
    from mmea.models import EAMLP

    ctor = case.meta['ctor']
    backbone = EAMLP(
        dict(
            embed_dims=ctor['embed_dim'],
            num_layers=ctor['depth'],
            num_heads=ctor['num_heads'],
            feedforward_channels=int(ctor['embed_dim'] * ctor['mlp_ratio']),
        ),
        img_size=ctor['img_size'],
        in_channels=ctor['in_chans'],
        token_dims=ctor['token_dim'],
        out_type='cls_token',
    )
    # As stored in single precision there.
    table = case['param/pos_embed']
    assert (backbone.pos_embed - table).abs().max() < 1e-6
    # The names of an ImageClassifier with a LinearClsHead.
    head = nn.ModuleDict(
        dict(fc=nn.Linear(ctor['embed_dim'], ctor['num_classes']))
    )
    net = nn.ModuleDict(dict(backbone=backbone, head=head))
    case.check_module(
        net,
        f'eamlp_{ctor["tokens_type"]}',
        lambda x: head['fc'](backbone(x)[-1]),
    )


def check_gate(case: Case):
    ctor = case.meta['ctor']
    layer = build(
        'caam_cbam', ctor['gate_channels'], reduction=ctor['reduction_ratio']
    )
    case.check_module(layer, 'caam_cbam')


def check_causal(case: Case):
    ctor = case.meta['ctor']
    layer = build('caam_attention', ctor['dim'], ctor['num_heads'])
    case.check_module(
        layer,
        'caam_attention',
        lambda x: dict(zip(('causal', 'spurious'), layer(x))),
    )


def check_caam_block(case: Case):
    pytest.importorskip('mmcv')
    from mmea.caam.block import CaaMBlock

    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    spurious = case.group('input/').get('spurious')
    block = CaaMBlock(
        ctor['inplanes'],
        ctor['planes'],
        stride=ctor['stride'],
        paths='split' if spurious is None else 'two',
        gate=dict(type='mmea.CBAMGate2d', reduction=fixed['cbam_reduction']),
        norm_cfg=dict(
            type='BN', eps=fixed['bn_eps'], momentum=fixed['bn_momentum']
        ),
    )
    if spurious is not None:
        spurious.requires_grad_()
    names = ('causal', 'spurious', 'mix')
    case.check_module(
        block,
        'caam_block',
        lambda x: dict(
            zip(names, block(x if spurious is None else (x, spurious)))
        ),
    )


def check_caam_transformer_block(case: Case):
    pytest.importorskip('mmcv')
    from mmea.caam.transformer_block import (
        CaaMTransformerBlock,
    )

    ctor = case.meta['ctor']
    block = CaaMTransformerBlock(
        ctor['dim'], ctor['num_heads'], int(ctor['dim'] * ctor['mlp_ratio'])
    )
    names = ('causal', 'spurious', 'mix')
    case.check_module(
        block,
        'caam_transformer_block',
        lambda x: dict(zip(names, block(x))),
    )


def check_catt(case: Case):
    ctor, fixed = case.meta['ctor'], case.meta['fixed']
    words = case['input/M'].requires_grad_()
    args = dict(
        num_heads=ctor['num_attention_heads'],
        feedforward_channels=ctor['intermediate_size'],
    )
    if case.meta['case'] == 'catt_ft_same_fused':
        block = build('catt_ft_same_fused', ctor['hidden_size'], **args)
        # An input there, a parameter here.
        del block.dictionary
        block.dictionary = words
        case.check_module(
            block,
            'catt_ft_same_fused',
            lambda x: block(x.mT.unsqueeze(2)).squeeze(2).mT,
        )
        return
    source = f'catt_{ctor["bert_type"]}'
    args['norm_eps'] = fixed['ln_eps']
    layer = build(source, ctor['hidden_size'], **args)
    # Theirs are added to the logits: 0 or -10000.
    masks = {
        ours: case[f'input/{theirs}'].flatten(1) > -1
        for ours, theirs in (
            ('mask', 'attention_mask'),
            ('dictionary_mask', 'M_mask'),
        )
        if f'input/{theirs}' in case.arrays
    }
    case.check_module(
        layer,
        source,
        lambda x: dict(zip(('is', 'cs'), layer(x, words, **masks))),
    )


CHECKS = {
    'ea_block_': check_block,
    'ea_core': check_core,
    'eanet_head_': check_head,
    'eanet_loss': check_loss,
    'nonlocal_': check_non_local,
    'efficient_': check_efficient,
    'lam_': check_linear,
    'sasa_': check_stand_alone,
    'halo_': check_halo,
    'elsa_lam': check_elsa,
    'elsa_swin': check_elsa,
    'mhea_attention': check_multihead,
    'mhea_block': check_eamlp_block,
    't2t_token_': check_eamlp_tokens,
    'eamlp_net_': check_eamlp,
    'caam_cbam_': check_gate,
    'catt_ft': check_catt,
    'caam_vit_attention': check_causal,
    'caam_split_block_': check_caam_block,
    'caam_bipath_block_': check_caam_block,
    'caam_vit_block': check_caam_transformer_block,
}


# Cases of external attention run in both of its forms.
FORMS = {
    prefix: ['plain', 'low_rank']
    for prefix in (
        'ea_block_',
        'ea_core',
        'eanet_head_',
        'mhea_attention',
        'mhea_block',
        'eamlp_net_',
    )
}


def find_cases() -> list:
    return [
        pytest.param(path, prefix, form, id=f'{path.stem}-{form}')
        for path in sorted(FOLDER.glob('*.npz'))
        for prefix in CHECKS
        if path.stem.startswith(prefix)
        for form in FORMS.get(prefix, ['auto'])
    ]


@pytest.mark.parametrize(('path', 'prefix', 'form'), find_cases())
def test_oracle(path: Path, prefix: str, form: str, monkeypatch):
    monkeypatch.setenv('MMEA_EA_FORM', form)
    CHECKS[prefix](Case(path))


def test_oracle_folder_has_cases():
    assert find_cases(), f'MMEA_ORACLE_DIR={FOLDER} holds no known case'
