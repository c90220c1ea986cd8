"""Rules, as those of rules.py, of the SAGAN of StudioGAN."""

from .rename import under


def _normed(theirs: str, ours: str) -> dict[str, str]:
    """Rules of a layer under spectral norm, and of the same without."""
    weight = f'{ours}.parametrizations.weight'
    return {
        f'{theirs}.weight_orig': f'{weight}.original',
        f'{theirs}.weight_u': f'{weight}.0.u',
        f'{theirs}.weight_v': f'{weight}.0.v',
        f'{theirs}.': f'{ours}.',
    }


ATTENTION = {
    'sigma': 'gate.sigma',
    **_normed('conv1x1_theta', 'query_proj'),
    **_normed('conv1x1_phi', 'key_proj'),
    **_normed('conv1x1_g', 'value_proj'),
    **_normed('conv1x1_attn', 'out_proj'),
}
_CONVS = {
    **_normed('conv2d0', 'shortcut'),
    **_normed('conv2d1', 'conv1'),
    **_normed('conv2d2', 'conv2'),
}
# An earlier StudioGAN has two embeddings, put right in shapes.py.
_NORM = {
    'bn.': 'bn.',
    **_normed('gain', 'gain'),
    **_normed('bias', 'bias'),
    **_normed('embed0', 'gain_embedding'),
    **_normed('embed1', 'bias_embedding'),
    'bias': 'bn.bias',
    **{
        name: f'bn.{name}'
        for name in (
            'weight',
            'running_mean',
            'running_var',
            'num_batches_tracked',
        )
    },
}
GENERATOR_BLOCK = {
    **_CONVS,
    **under('bn*.', 'norm*.', _NORM),
}
DISCRIMINATOR_BLOCK = {**_CONVS, 'bn*.': 'norm*.'}
GENERATOR = {
    **_normed('linear0', 'linear'),
    **under('blocks.*.0.', 'blocks.*.', ATTENTION | GENERATOR_BLOCK),
    'bn4.': 'norm.',
    **_normed('conv2d5', 'conv'),
}
DISCRIMINATOR = {
    **under('blocks.*.0.', 'blocks.*.', ATTENTION | DISCRIMINATOR_BLOCK),
    **_normed('linear1', 'linear'),
    **_normed('embedding', 'embedding'),
}
