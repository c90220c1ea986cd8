from .ea_neck import EANeck

__all__ = ['EANeck']
