from .audit import audit_onnx as audit_onnx
from .parity import (
    ParityReport as ParityReport,
    check_parity as check_parity,
    threshold_adjacent_rows as threshold_adjacent_rows,
)
from .scorer import (
    INPUT as INPUT,
    PROBABILITY as PROBABILITY,
    RAW_SCORE as RAW_SCORE,
    Scorer as Scorer,
)

__all__ = [
    "INPUT",
    "PROBABILITY",
    "RAW_SCORE",
    "ParityReport",
    "Scorer",
    "audit_onnx",
    "check_parity",
    "threshold_adjacent_rows",
]
