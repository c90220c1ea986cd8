from .caam_classifier import CaaMClassifier

__all__ = ['CaaMClassifier']
