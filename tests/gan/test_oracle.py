"""SAGAN against numbers recorded from StudioGAN."""

from pathlib import Path

import pytest

from mmea.gan import (
    SAGANDiscriminator,
    SAGANGenerator,
    add_spectral_norm,
)
from mmea.gan.blocks import (
    DiscriminatorBlock,
    FirstDiscriminatorBlock,
    GeneratorBlock,
)
from tests.host_oracle import host_cases
from tests.test_oracle import Case, build

pytestmark = pytest.mark.oracle

ATTENTION = dict(type='mmea.SAGANAttention2d')


def normed(case: Case, module, key: str = 'spectral_norm'):
    if case.meta['ctor'][key]:
        add_spectral_norm(module, case.meta['fixed']['sn_eps'])
    return module


def check_attention(case: Case):
    layer = build('sagan_attention', case.meta['ctor']['in_channels'])
    case.check_module(normed(case, layer), 'sagan_attention')


def check_generator_block(case: Case):
    ctor = case.meta['ctor']
    block = GeneratorBlock(
        ctor['in_channels'], ctor['out_channels'], ctor['num_classes']
    )
    labels = case.arrays.get('input/affine')
    if labels is not None:
        labels = labels.argmax(1)
    case.check_module(
        normed(case, block),
        'sagan_generator_block',
        lambda x: block(x, labels),
    )


def check_discriminator_block(case: Case):
    ctor = case.meta['ctor']
    widths = ctor['in_channels'], ctor['out_channels']
    norm = not ctor['apply_d_sn']
    if '_opt_' in case.meta['case']:
        block = FirstDiscriminatorBlock(*widths, norm=norm)
    else:
        block = DiscriminatorBlock(
            *widths, downsample=ctor['downsample'], norm=norm
        )
    case.check_module(
        normed(case, block, 'apply_d_sn'), 'sagan_discriminator_block'
    )


def check_generator(case: Case):
    ctor = case.meta['ctor']
    net = SAGANGenerator(
        ctor['img_size'],
        num_classes=ctor['num_classes'],
        noise_channels=ctor['z_dim'],
        base_channels=ctor['g_conv_dim'],
        attention=ATTENTION,
        attention_after=ctor['attn_g_loc'][0],
        spectral_norm=ctor['spectral_norm'],
    )
    labels = case['input/label']
    case.check_module(net, 'sagan_generator', lambda x: net(x, labels))


def check_discriminator(case: Case):
    ctor = case.meta['ctor']
    net = SAGANDiscriminator(
        ctor['img_size'],
        num_classes=ctor['num_classes'],
        base_channels=ctor['d_conv_dim'],
        attention=ATTENTION,
        attention_after=ctor['attn_d_loc'][0],
    )

    def call(x):
        feats = net.extract_feats(x)
        return dict(h=feats, adv=net.score(feats, case['input/label']))

    case.check_module(net, 'sagan_discriminator', call)


CHECKS = {
    'sagan_attention': check_attention,
    'sagan_gen_block': check_generator_block,
    'sagan_generator': check_generator,
    'sagan_discriminator': check_discriminator,
    'sagan_disc_': check_discriminator_block,
}


@pytest.mark.parametrize('path', host_cases('sagan_'))
def test_oracle(path: Path):
    (check,) = [
        check for name, check in CHECKS.items() if path.stem.startswith(name)
    ]
    check(Case(path))
