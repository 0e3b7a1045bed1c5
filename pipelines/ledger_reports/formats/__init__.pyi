from .document import Chart as Chart, Report as Report, Table as Table
from .write import FORMATS as FORMATS, write_report as write_report

__all__ = ["FORMATS", "Chart", "Report", "Table", "write_report"]
