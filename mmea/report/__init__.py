"""A training, or two, on one page of HTML that stands alone."""

from .page import write_report

__all__ = ['write_report']
