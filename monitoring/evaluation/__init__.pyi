from . import passes as passes, record as record
from .monitor import BookMonitor as BookMonitor

__all__ = ["BookMonitor", "passes", "record"]
