from .classifier import (
    MarginCallClassifier as MarginCallClassifier,
    TrainingDataError as TrainingDataError,
)
from .splitter import PurgedTimeSeriesSplit as PurgedTimeSeriesSplit
from .training_table import training_rows as training_rows

__all__ = ["MarginCallClassifier", "PurgedTimeSeriesSplit", "TrainingDataError", "training_rows"]
