"""Hyperparameters that a training fits with: configured, or found by ``[training.search]``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.cli.extras import require
from pipelines.config.config import Config
from pipelines.config.search_section import whole_or_float
from training.fitting.hyperparameters import Hyperparameters
from training.labels.dataset import Dataset
from training.tuning.search import SearchPlan, SearchResult, Space, search_hyperparameters


def configured_settings(config: Config) -> Hyperparameters:
    """Those of ``[training.lightgbm]``."""
    return Hyperparameters(**config.training.lightgbm.model_dump())


def find_settings(
    config: Config, data: Dataset, block: npt.NDArray[np.int8]
) -> SearchResult | None:
    """The result of the configured search, or None where none is enabled.

    Raises
    ------
    MissingExtraError
        Optuna is not installed.
    ModelError
        The rows do not suffice for the folds.
    """
    search = config.training.search
    if not search.enabled:
        return None
    require("search", "[training.search] enabled")
    spaces = {
        name: Space(space.low, space.high, space.log, tuple(map(whole_or_float, space.choices)))
        for name in type(search.spaces).model_fields
        if (space := getattr(search.spaces, name)).ends
    }
    plan = SearchPlan(spaces, search.trials, search.timeout_seconds, search.seed, search.folds)
    return search_hyperparameters(data, block, configured_settings(config), plan)
