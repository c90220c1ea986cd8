"""Train a model: ``python -m mmea.train CONFIG``, or ``mmea train``."""

from mmea.cli.train import main

__all__ = ['main']

if __name__ == '__main__':
    main()
