"""Rules, as those of rules.py, of PSMNet, stacked hourglass and basic."""

from .rename import under

__all__ = ['BLOCK', 'FEATURES', 'PSMNET']

BLOCK = {
    'conv1.0.': 'conv1.',
    'conv2.': 'conv2.',
    'downsample.': 'shortcut.',
}
FEATURES = {
    **{f'firstconv.{2 * i}.': f'stem.{i}.' for i in range(3)},
    **{
        theirs: ours
        for i in range(4)
        for theirs, ours in under(
            f'layer{i + 1}.*.', f'layers.{i}.*.', BLOCK
        ).items()
    },
    **{f'branch{i + 1}.1.': f'branches.{i}.' for i in range(4)},
    'lastconv.0.': 'fuse.0.',
    'lastconv.2.': 'fuse.1.',
}
HOURGLASS = {
    'conv1.0.': 'conv1.',
    'conv2.': 'conv2.',
    'conv3.0.': 'conv3.',
    'conv4.0.': 'conv4.',
    'conv5.': 'conv5.',
    'conv6.': 'conv6.',
}


def _two(theirs: str, ours: str) -> dict[str, str]:
    return {f'{theirs}.0.': f'{ours}.0.', f'{theirs}.2.': f'{ours}.1.'}


PSMNET = {
    **under('feature_extraction.', 'features.', FEATURES),
    **_two('dres0', 'entry'),
    **_two('dres1', 'blocks.0'),
    # Of the same names: hourglasses, or in the basic form more blocks.
    **{
        theirs: ours
        for i in range(3)
        for theirs, ours in {
            **under(f'dres{i + 2}.', f'hourglasses.{i}.', HOURGLASS),
            **_two(f'dres{i + 2}', f'blocks.{i + 1}'),
            **_two(f'classif{i + 1}', f'heads.{i}'),
        }.items()
    },
    **_two('classify', 'heads.0'),
}
