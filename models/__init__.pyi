from . import bundle as bundle, mlflow as mlflow, onnx as onnx, trees as trees
from .forecaster import Forecaster as Forecaster
from .gates import (
    Gate as Gate,
    Kind as Kind,
    PromotionVerdict as PromotionVerdict,
    bounds_gate as bounds_gate,
    calibration_gates as calibration_gates,
    decide_promotion as decide_promotion,
    not_worse_gate as not_worse_gate,
    parity_gate as parity_gate,
    procyclicality_gates as procyclicality_gates,
    stress_gate as stress_gate,
    uncovered_loss_gate as uncovered_loss_gate,
    weak_groups_gate as weak_groups_gate,
)

__all__ = [
    "Forecaster",
    "Gate",
    "Kind",
    "PromotionVerdict",
    "bounds_gate",
    "bundle",
    "calibration_gates",
    "decide_promotion",
    "mlflow",
    "not_worse_gate",
    "onnx",
    "parity_gate",
    "procyclicality_gates",
    "stress_gate",
    "trees",
    "uncovered_loss_gate",
    "weak_groups_gate",
]
