from . import learning as learning
from .errors import (
    ConfigError as ConfigError,
    DataError as DataError,
    MargincastError as MargincastError,
    ModelError as ModelError,
    RuleSetError as RuleSetError,
)
from .explanation import explain as explain
from .feature_table import features as features
from .learning.classifier import MarginCallClassifier as MarginCallClassifier
from .learning.labelled_rows import TrainingRows as TrainingRows, training_rows as training_rows
from .learning.splitter import PurgedTimeSeriesSplit as PurgedTimeSeriesSplit
from .market_data import Market as Market
from .model import (
    Model as Model,
    load_bundle as load_bundle,
    load_champion as load_champion,
)
from .rule_margins import requirement as requirement
from .scoring import score as score
from .simulation import Simulation as Simulation, simulate as simulate
from .what_if_analysis import (
    Scenario as Scenario,
    WhatIfResult as WhatIfResult,
    what_if as what_if,
)

__all__ = [
    "ConfigError",
    "DataError",
    "MarginCallClassifier",
    "MargincastError",
    "Market",
    "Model",
    "ModelError",
    "PurgedTimeSeriesSplit",
    "RuleSetError",
    "Scenario",
    "Simulation",
    "TrainingRows",
    "WhatIfResult",
    "explain",
    "features",
    "learning",
    "load_bundle",
    "load_champion",
    "requirement",
    "score",
    "simulate",
    "training_rows",
    "what_if",
]
