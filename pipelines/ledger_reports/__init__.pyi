from . import formats as formats
from .kinds import KINDS as KINDS, make_report as make_report
from .request import ReportRequest as ReportRequest, Span as Span

__all__ = ["KINDS", "ReportRequest", "Span", "formats", "make_report"]
