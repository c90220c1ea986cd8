"""Evaluate a model: ``python -m mmea.test CONFIG``, or ``mmea test``."""

from mmea.cli.test import main

__all__ = ['main']

if __name__ == '__main__':
    main()
