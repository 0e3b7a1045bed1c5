"""Forecasts of one bundle: probabilities of accounts, and the headroom that the model requires."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from features.account.column_plan import column_plan, rows_at
from features.account.frame import compute_features
from features.identity import columns_that_differ, digests_of_registry
from margin.add_on.bounds import ModelLevel
from margin.add_on.solver import required_level, target_horizons
from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle
from models.trees.tree_bracketing import LevelGuesser

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BLOCK = 1_024
"""Accounts searched at once: their nodes in the trees stay in the cache."""


class Forecaster:
    """Scores aggregates of accounts (`features.account.aggregates`) with one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        """Check that an audited bundle reads columns as this version computes them.

        Raises
        ------
        BundleError
            The bundle reads columns that this version does not compute, or otherwise; or it
            forecasts another event than a call, whose headroom is not the one decided on.
        """
        event = bundle.manifest["training"].get("event", "call")
        if event != "call":
            raise BundleError(
                f"bundle {bundle.sha256} forecasts the event {event!r}, and decisions rest on "
                'margin calls; evaluate it, or retrain with [training] event = "call"'
            )
        differ = columns_that_differ(_digests_of(bundle))
        if differ:
            raise BundleError(
                f"bundle {bundle.sha256} was trained on other features: this version computes "
                f"{', '.join(differ)} otherwise or not at all; retrain, or serve it with the "
                "version that trained it"
            )
        self.bundle = bundle
        self.horizons = bundle.schema.horizons
        self._guesser = LevelGuesser(bundle.schema, bundle.trees, bundle.calibration, bundle.priors)

    def features(self, aggregates: Floats) -> Floats:
        """The model's columns, shape (N, F)."""
        return compute_features(aggregates, self.bundle.schema.features)

    def probability(self, features: Floats) -> Floats:
        """Probability of a call within each horizon, shape (N, H); NaN where the prior is NaN.

        Raises
        ------
        ModelError
            The features do not fit, or the model failed in whatever way.
        """
        try:
            return self.bundle.scorer.probability(features)
        except Exception as error:
            raise self._failure(len(features), error) from error

    def required_level(
        self,
        aggregates: Floats,
        upper: Floats,
        p_star: Mapping[int, float],
        columns: Floats | None = None,
    ) -> ModelLevel:
        """Smallest headroom at which each account is tolerated, see `margin.add_on.solver`.

        The account keeps its positions; its equity is set so that the headroom is the level.
        `columns` are its `features`, where they are known already.
        """
        target_horizons(p_star, self.horizons)
        if columns is None:
            columns = self.features(aggregates)
        blocks = [slice(at, at + _BLOCK) for at in range(0, max(len(aggregates), 1), _BLOCK)]
        parts = [self._levels(aggregates[b], columns[b], upper[b], p_star) for b in blocks]
        if len(parts) == 1:
            return parts[0]
        return ModelLevel(
            parts[0].horizons,
            np.concatenate([part.by_horizon for part in parts]),
            np.concatenate([part.level for part in parts]),
        )

    def levels_by_trees(
        self, aggregates: Floats, upper: Floats, p_star: Mapping[int, float], columns: Floats
    ) -> Floats:
        """Levels as those of `required_level`, by the trees without the graph's check, (N,).

        They differ by rounding at most. `upper` where no level suffices, NaN where the score is
        NaN. For figures over many accounts; decisions rest on `required_level`.

        Raises
        ------
        ModelError
            A targeted horizon is not among the model's, or the model failed in whatever way.
        """
        target_horizons(p_star, self.horizons)
        try:
            levels: Floats = self._guesser.levels(aggregates, columns, upper, p_star).max(axis=1)
        except Exception as error:
            raise self._failure(len(columns), error) from error
        return levels

    def _levels(
        self, aggregates: Floats, columns: Floats, upper: Floats, p_star: Mapping[int, float]
    ) -> ModelLevel:
        of_equity = column_plan(self.bundle.schema.features).of_equity

        def probability(level: Floats, rows: Ints) -> Floats:
            return self.probability(rows_at(of_equity, aggregates, columns, rows, level))

        # Near the limits of float64 a guess may be NaN: the search then runs without it.
        try:
            guess = self._guesser.levels(aggregates, columns, upper, p_star)
        except Exception as error:
            raise self._failure(len(columns), error) from error
        return required_level(probability, upper, p_star, self.horizons, guess)

    def _failure(self, rows: int, error: Exception) -> ModelError:
        return ModelError(
            f"bundle {self.bundle.sha256} failed on {rows} rows: {error}; roll back to the "
            "previous bundle"
        )


def _digests_of(bundle: Bundle) -> dict[str, str]:
    """SHA-256 of each column that a bundle reads, by name.

    Raises
    ------
    BundleError
        It names a registry as a whole that is not known.
    """
    schema = bundle.schema
    if schema.feature_digests:
        return dict(zip(schema.features, schema.feature_digests, strict=True))
    known = digests_of_registry(schema.features_sha256)
    if known is None:
        raise BundleError(
            f"bundle {bundle.sha256} was trained on other features: it names only their registry "
            f"{schema.features_sha256[:12]}, which this version does not know; retrain"
        )
    return {name: known.get(name, "") for name in schema.features}
