from .ea_fpn_head import EAFPNHead
from .ea_head import EAHead

__all__ = ['EAFPNHead', 'EAHead']
