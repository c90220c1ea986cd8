"""What is installed here, and what of it does not go together.

Nothing is needed but Python: a package that is missing or broken is told, not
raised.
"""

from .facts import Package, read_packages
from .machine import read_machine
from .report import report
from .traps import TRAPS, Facts, Trap, find_traps

__all__ = [
    'TRAPS',
    'Facts',
    'Package',
    'Trap',
    'find_traps',
    'read_machine',
    'read_packages',
    'report',
]
