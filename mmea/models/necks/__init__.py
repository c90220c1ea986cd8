from .ea_neck import EANeck
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['EANeck', 'SimpleFeaturePyramid']
