from .archived import ArchivedRecords as ArchivedRecords
from .archiver import Archiver as Archiver

__all__ = ["ArchivedRecords", "Archiver"]
