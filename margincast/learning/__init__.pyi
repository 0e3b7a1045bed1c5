from .classifier import (
    MarginCallClassifier as MarginCallClassifier,
    TrainingDataError as TrainingDataError,
)
from .labelled_rows import TrainingRows as TrainingRows, training_rows as training_rows
from .splitter import PurgedTimeSeriesSplit as PurgedTimeSeriesSplit

__all__ = [
    "MarginCallClassifier",
    "PurgedTimeSeriesSplit",
    "TrainingDataError",
    "TrainingRows",
    "training_rows",
]
