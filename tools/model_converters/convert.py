"""Turn a published checkpoint into one of mmea.

python tools/model_converters/convert.py eanet published.pth ours.pth
"""

import argparse
import sys
from pathlib import Path

import torch

from mmea.convert import SOURCES, convert
from mmea.engine.checkpoint import load_checkpoint
from mmea.errors import UserError


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', choices=sorted(SOURCES))
    parser.add_argument('checkpoint', help='the published file')
    parser.add_argument('out', help='where to write ours')
    args = parser.parse_args()
    try:
        state = load_checkpoint(args.checkpoint, 'cpu')
        state = convert(state.get('state_dict', state), args.source)
    except (UserError, ValueError) as error:
        sys.exit(f'error: {error}')
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state, meta={}), out)
    print(f'{len(state)} entries written to {out}')


main()
