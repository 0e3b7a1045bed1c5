from .record import (
    CALCULATION as CALCULATION,
    HistoryBasis as HistoryBasis,
    append_history as append_history,
    find_record as find_record,
    history_sha256 as history_sha256,
    numbered as numbered,
)
from .tally import Tally as Tally
from .walk import HistoryWalk as HistoryWalk

__all__ = [
    "CALCULATION",
    "HistoryBasis",
    "HistoryWalk",
    "Tally",
    "append_history",
    "find_record",
    "history_sha256",
    "numbered",
]
