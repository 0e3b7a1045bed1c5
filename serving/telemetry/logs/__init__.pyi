from .access_log import AccessLog as AccessLog
from .lines import LineWriter as LineWriter
from .records import LogSettings as LogSettings, configure_logs as configure_logs

__all__ = ["AccessLog", "LineWriter", "LogSettings", "configure_logs"]
