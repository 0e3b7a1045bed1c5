from .classifier import (
    MarginCallClassifier as MarginCallClassifier,
    TrainingDataError as TrainingDataError,
)
from .splitter import PurgedTimeSeriesSplit as PurgedTimeSeriesSplit

__all__ = ["MarginCallClassifier", "PurgedTimeSeriesSplit", "TrainingDataError"]
