from .monitors import Floors as Floors, drift_report as drift_report
from .reference import (
    current_profile as current_profile,
    make_reference as make_reference,
    read_reference as read_reference,
)

__all__ = [
    "Floors",
    "current_profile",
    "drift_report",
    "make_reference",
    "read_reference",
]
