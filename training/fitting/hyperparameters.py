"""Settings of the fit of the model; its defaults are those that the project was assessed with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How prior and trees are fitted. Names that LightGBM has mean what they mean there.

    Attributes
    ----------
    learning_rate, num_leaves, lambda_l2, feature_fraction, bagging_fraction, bagging_freq, max_bin:
        Of LightGBM.
    min_data_in_leaf:
        The most: a hundredth of the rows if that is less, and at least `least_in_leaf`.
    num_iterations:
        Trees of one seed by horizon in hours, linear in the logarithm of the horizon between them.
    seeds:
        Of the small trees, whose scores are averaged; the first is that of the wide trees.
    blend_from_hours:
        From this horizon on trees on every column are blended in.
    wide_share:
        Weight of the trees on every column in the blend.
    prior_ridge:
        Penalty on the squared weights of the prior, see `training.fitting.prior_fit.fit_prior`.
    """

    learning_rate: float = 0.05
    num_leaves: int = 7
    min_data_in_leaf: int = 2000
    lambda_l2: float = 10.0
    feature_fraction: float = 0.6
    bagging_fraction: float = 0.5
    bagging_freq: int = 1
    max_bin: int = 255
    num_iterations: Mapping[int, int] = field(default_factory=lambda: {1: 80, 8: 60, 24: 45})
    seeds: tuple[int, ...] = (1, 2)
    blend_from_hours: int = 6
    wide_share: float = 1.0 / 3.0
    least_in_leaf: int = 50
    prior_ridge: float = 1.0

    def lightgbm(self) -> dict[str, Any]:
        """Parameters of LightGBM but for those that depend on rows, columns and seed."""
        return {
            "objective": "binary",
            "metric": "binary_logloss",
            "boost_from_average": False,  # the prior is the starting point
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "lambda_l2": self.lambda_l2,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": self.bagging_freq,
            "max_bin": self.max_bin,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def leaf_size(self, rows: int) -> int:
        """``min_data_in_leaf`` of trees fitted to so many rows."""
        return min(self.min_data_in_leaf, max(self.least_in_leaf, rows // 100))

    def rounds(self, horizon: int) -> int:
        """Trees of one seed at a horizon in hours."""
        known = sorted(self.num_iterations.items())
        hours, trees = [math.log(h) for h, _ in known], [count for _, count in known]
        return round(float(np.interp(math.log(horizon), hours, trees)))


DEFAULTS = Hyperparameters()
