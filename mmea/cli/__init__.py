"""The command line: ``mmea train``, ``mmea test``, ...

Every command is a module here whose ``main(argv)`` imports torch and the
stack only after it has read its arguments, so that ``--help`` is quick.
``python -m mmea.train`` and ``tools/train.py`` are other doors to the same.
"""

import sys
from importlib import import_module

__all__ = ['COMMANDS', 'main']

#: Name: what it does. The module has the same name, with underscores.
COMMANDS = {
    'new': 'write a config for images and masks, or a COCO file, of your own',
    'check-data': 'check the data of a config, count and draw them',
    'train': 'train a model of mmseg, mmdet or mmpretrain',
    'test': 'evaluate a checkpoint',
    'predict': 'use a model on photographs and videos',
    'generate': 'make images with a GAN',
    'visualize': 'draw what the attention of a model looks at',
    'export': 'write a model as ONNX or as a torch.export program, checked',
    'publish': 'write weights, config and card of a model to a folder',
    'report': 'write a page about a training, or two side by side',
    'app': 'serve a web page to drop photographs on',
    'compare': 'compare attention layers, by cost and by training',
    'print-config': 'print the whole config, as train runs it',
    'flops': 'count parameters and multiplications, part by part',
    'convert': 'turn a published checkpoint into one of mmea',
    'demo-data': 'render a small data set in the layout of a real one',
    'coco-to-masks': 'turn COCO annotations into label images',
    'env': 'tell what is installed here, and the traps among it',
    'completion': 'print what a shell needs to complete mmea by Tab',
}


def main(argv: list[str] | None = None) -> None:
    """Run one command: ``mmea COMMAND [arguments]``."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
    if name in COMMANDS:
        module = name.replace('-', '_')
        import_module(f'mmea.cli.{module}').main(rest)
    elif name in ('-h', '--help'):
        print(_usage())
    elif name == '--version':
        print(f'mmea {import_module("mmea").__version__}')
    else:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, 1)
        hint = f', did you mean {close[0]!r}?' if close else ''
        sys.exit(f'mmea: no command {name!r}{hint}\n\n{_usage()}')


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    return '\n'.join(
        [
            'usage: mmea COMMAND ...; mmea COMMAND --help tells its options',
            '',
            *(f'  {k:{width}}{v}' for k, v in COMMANDS.items()),
        ]
    )
