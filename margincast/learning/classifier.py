"""The model of Margincast in scikit-learn's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from features.registry import find_account_feature, prior_distances
from market.core.arrays import Floats
from market.core.errors import ModelError
from training.fitting.calibration import fit_platt, platt_probability
from training.fitting.hyperparameters import DEFAULTS
from training.fitting.prior_fit import fit_prior
from training.fitting.trees import tree_parameters

Labels = npt.NDArray[np.int8]


class TrainingDataError(ModelError, ValueError):
    """Rows cannot be trained on or predicted; a `ValueError`, as scikit-learn expects."""


class MarginCallClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Prior on the distance to a call, small monotone trees that correct it, and a Platt line.

    What is fitted depends on the columns, and on nothing else:

    - X is a frame with the columns ``forecast_distance_{horizon_hours}h`` and
      ``long_run_distance`` (the account features of `docs/features.md`): a spline prior on the two
      is fitted, decreasing in both, and the trees start from it. Every column that is an account
      feature is monotone as the feature is defined (more headroom never raises the probability).
      The two distances must not be missing.
    - X is anything else: there is no prior, the trees start from even odds, and only `monotone`
      constrains them.

    In both cases prior and trees of the first rows of each class (in the order given: sort rows by
    time) are fitted first, and the last `calibration_share` of each class are scored by them (all
    rows, where that share is less than one row of a class). The slope of the Platt line on these
    scores is kept; it is 1 where the line would turn the order of the rows around or the score is
    constant. Then prior and trees are fitted to all rows, and the intercept makes the mean
    probability of these rows the share of calls among them, both by weight.

    With fewer than a few hundred calls the slope is uncertain and so are the probabilities: on
    simulated accounts with 10 to 195 calls to learn from, mean probability and share of calls of
    held-out rows differed by a factor of 1.5 in the mean of 19 fits (95% interval 1.3 to 1.7).

    Parameters
    ----------
    horizon_hours:
        Horizon of the labels: chooses the prior's distance and the number of trees.
    rounds:
        Trees of each seed; None: the number that training uses for the horizon.
    learning_rate, num_leaves:
        Of the trees.
    monotone:
        -1, 0 or +1 for each column, in their order; None: see above.
    calibration_share:
        Share of each class, above 0 and below 1, that the first trees do not see.
    seeds:
        One booster is trained for each, and their scores are averaged.

    Attributes
    ----------
    classes_:
        The two labels; the second is the call.
    prior_:
        The spline prior (`models.prior.SplinePrior`); None without the distances.
    boosters_:
        LightGBM's boosters.
    calibration_:
        Slope and intercept on the log odds.
    n_features_in_, feature_names_in_:
        As scikit-learn has them.

    Examples
    --------
    >>> import numpy as np
    >>> from margincast import MarginCallClassifier
    >>> X = np.random.default_rng(1).normal(size=(2000, 2))
    >>> y = X[:, 0] < -1.0
    >>> model = MarginCallClassifier(monotone=[-1, 0]).fit(X, y)
    >>> p = model.predict_proba(np.array([[-2.0, 0.0], [2.0, 0.0]]))[:, 1]
    >>> bool(p[0] > p[1])
    True
    """

    def __init__(
        self,
        *,
        horizon_hours: int = 24,
        rounds: int | None = None,
        learning_rate: float = 0.05,
        num_leaves: int = 7,
        monotone: Sequence[int] | None = None,
        calibration_share: float = 0.25,
        seeds: Sequence[int] = (1, 2),
    ) -> None:
        self.horizon_hours = horizon_hours
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.monotone = monotone
        self.calibration_share = calibration_share
        self.seeds = seeds

    def __sklearn_tags__(self) -> Any:
        """Two classes; missing values go their own way in the trees."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MarginCallClassifier:
        """Fit to rows in time order.

        Parameters
        ----------
        X:
            Shape (N, F); NaN where a value is missing.
        y:
            Two classes, shape (N,).
        sample_weight:
            How often each row counts, shape (N,); rows of weight 0 take no part. None: 1 each.

        Raises
        ------
        TrainingDataError
            There are not two classes, a weight is negative, a parameter is impossible, or a
            distance of the prior is missing.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        weight = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
        if (weight < 0.0).any() or not 0.0 < self.calibration_share < 1.0:
            raise TrainingDataError(
                "sample_weight has a negative entry, or calibration_share is "
                f"{self.calibration_share}; give weights of 0 or more and a share between 0 and 1"
            )
        self.classes_, codes = np.unique(y, return_inverse=True)
        used = weight > 0.0
        labels: Labels = codes[used].astype(np.int8)
        if len(self.classes_) > 2:
            raise TrainingDataError(
                "Only binary classification is supported. The type of the target is multiclass: "
                f"y has {len(self.classes_)} classes"
            )
        if len(np.unique(labels)) < 2:
            raise TrainingDataError(
                "y has one class only; the classifier needs rows with and without a call, of "
                "weight above 0"
            )
        X, weight = X[used], weight[used]
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        self._distances_ = self._distance_places(names)
        monotone = self._directions(names, X.shape[1])
        first = _first_rows(labels, self.calibration_share)
        raw = self._fit_stage(X[first], labels[first], weight[first], monotone, self.seeds[:1])
        later = ~first if len(np.unique(labels[~first])) == 2 else np.ones_like(first)
        slope = _slope(raw(X[later]), labels[later], weight[later])
        # The intercept of that line would undo an offset that the refitted model does not have.
        scaled = slope * self._fit_stage(X, labels, weight, monotone, self.seeds)(X)
        self.calibration_ = (slope, _intercept(scaled, labels, weight))
        return self

    def _distance_places(self, names: list[str]) -> tuple[int, ...]:
        needed = prior_distances(self.horizon_hours)
        return tuple(map(names.index, needed)) if set(needed) <= set(names) else ()

    def _directions(self, names: list[str], width: int) -> list[int]:
        if self.monotone is not None:
            if len(self.monotone) != width or not set(self.monotone) <= {-1, 0, 1}:
                raise TrainingDataError(
                    f"monotone is {list(self.monotone)} for {width} columns; give -1, 0 or +1 each"
                )
            return list(self.monotone)
        found = [find_account_feature(name) for name in names] if self._distances_ else []
        return [0 if one is None else one.monotone for one in found] or [0] * width

    def _fit_stage(
        self, X: Floats, labels: Labels, weight: Floats, monotone: list[int], seeds: Sequence[int]
    ) -> Any:
        """Fit prior and trees, and give what scores rows by them."""
        self.prior_, start = None, np.zeros(len(X))
        if self._distances_:
            self.prior_ = fit_prior(self._distances_of(X), labels, weight)
            start = self.prior_.score(self._distances_of(X))
        settings = replace(DEFAULTS, learning_rate=self.learning_rate, num_leaves=self.num_leaves)
        rounds = settings.rounds(self.horizon_hours) if self.rounds is None else self.rounds
        self.boosters_ = []
        for seed in seeds:
            parameters = tree_parameters(len(X), monotone, seed, 1, settings)
            rows = lightgbm.Dataset(
                X, labels, weight=weight, init_score=start, params={"verbosity": -1}
            )
            self.boosters_.append(lightgbm.train(parameters, rows, rounds))
        return self._raw

    def _distances_of(self, X: Floats) -> Floats:
        distances = np.ascontiguousarray(X[:, list(self._distances_)])
        if not np.isfinite(distances).all():
            raise TrainingDataError(
                f"a distance of the prior ({', '.join(prior_distances(self.horizon_hours))}) is "
                "missing; leave rows in warm-up out"
            )
        return distances

    def _raw(self, X: Floats) -> Floats:
        score = np.zeros(len(X))
        if self.prior_ is not None:
            score += self.prior_.score(self._distances_of(X))
        for booster in self.boosters_:
            score += np.asarray(booster.predict(X, raw_score=True, num_threads=1)) / len(
                self.boosters_
            )
        return score

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of both classes in the order of `classes_`, shape (N, 2)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        p = platt_probability(self._raw(X), *self.calibration_)
        return np.column_stack((1.0 - p, p))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The likelier class of each row, shape (N,)."""
        chosen: npt.NDArray[Any] = self.predict_proba(X)[:, 1] > 0.5
        return np.asarray(self.classes_[chosen.astype(np.int64)])


def _first_rows(labels: Labels, share: float) -> npt.NDArray[np.bool_]:
    """All rows but the last `share` of each class, of which at least one stays, shape (N,)."""
    first = np.ones(len(labels), dtype=np.bool_)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        first[rows[max(1, len(rows) - int(len(rows) * share)) :]] = False
    return first


def _slope(raw: Floats, labels: Labels, weight: Floats) -> float:
    try:
        return fit_platt(raw, labels, weight)[0]
    except ModelError:  # constant, or it ranks the rows the wrong way
        return 1.0


def _intercept(scaled: Floats, labels: Labels, weight: Floats) -> float:
    """What, added to log odds, makes the mean probability the share of calls, both by weight."""
    share = float(np.average(labels, weights=weight))
    odds = float(np.log(share / (1.0 - share)))

    def excess(intercept: float) -> float:
        return float(np.average(expit(scaled + intercept), weights=weight)) - share

    return float(brentq(excess, odds - scaled.max() - 1.0, odds - scaled.min() + 1.0))
