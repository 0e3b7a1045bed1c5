"""Metrics of a probability forecast.

A figure that the sample does not define (one class only, say) is None, JSON's null, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from training.fitting.calibration import fit_line
from training.fitting.logistic import separable

FloatArray = npt.NDArray[np.float64]

PROBABILITY_FLOOR = 1e-6
"""Probabilities are clipped to [1e-6, 1 - 1e-6] before a logarithm is taken."""

BINS = 10


class ProbabilityMetrics(TypedDict):
    """The figures of one model at one horizon, by the names of ``evaluate --json``."""

    auc: float | None
    average_precision: float | None
    brier: float
    brier_skill: float | None
    log_loss: float
    ece: float
    ece_over_base_rate: float | None
    calibration_slope: float | None
    calibration_intercept: float | None
    top_decile_ratio: float | None


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Equal-count bins of a forecast, in rising order of probability.

    Attributes
    ----------
    count:
        Rows of each bin, int64, shape (bins,).
    predicted:
        Mean probability of each bin.
    observed:
        Share of positives of each bin.
    """

    count: npt.NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray

    @property
    def expected_calibration_error(self) -> float:
        """``Σ (n_b/n) · |mean p − mean y|``."""
        gap = np.abs(self.predicted - self.observed)
        return float((self.count * gap).sum() / self.count.sum())

    @property
    def top_ratio(self) -> float | None:
        """Mean predicted over observed of the highest bin; None if nothing happened in it."""
        predicted, observed = float(self.predicted[-1]), float(self.observed[-1])
        return predicted / observed if observed > 0.0 else None


def clip_probability(p: npt.ArrayLike) -> FloatArray:
    """``p`` clipped to [1e-6, 1 − 1e-6], for logarithms, for every model alike; NaN stays."""
    return np.clip(np.asarray(p, dtype=np.float64), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)


def log_loss_rows(y: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Log loss of each row, ``−y log p − (1 − y) log(1 − p)`` in nats, ``p`` clipped.

    Raises
    ------
    ModelError
        As `evaluate_probability`.
    """
    outcome, probability = check_forecast(y, p)
    clipped = clip_probability(probability)
    return -np.where(outcome > 0.0, np.log(clipped), np.log1p(-clipped))


def log_loss_skill(model: float, baseline: float) -> float:
    """``1 − model/baseline`` of two log losses; above 0 the model is better.

    Raises
    ------
    ModelError
        The baseline's loss is not positive; clipped probabilities cannot give that.
    """
    if not baseline > 0.0:
        raise ModelError(f"the baseline's log loss is {baseline!r}; expected a positive number")
    return 1.0 - model / baseline


def oracle_gap_closed(baseline: float, model: float, oracle: float | None) -> float | None:
    """Share of the way from the baseline to the oracle, in log loss, that the model goes.

    ``(baseline − model)/(baseline − oracle)``; None without an oracle, or when it is not better
    than the baseline.
    """
    if oracle is None or not baseline - oracle > 0.0:
        return None
    return (baseline - model) / (baseline - oracle)


def reliability_bins(y: npt.ArrayLike, p: npt.ArrayLike, bins: int = BINS) -> ReliabilityBins:
    """Rows sorted by ``p`` (stable: ties keep their order) and cut into equal-count bins.

    Where the rows do not divide evenly, the first bins get one more (``numpy.array_split``);
    with fewer rows than bins, every row is its own bin.

    Raises
    ------
    ModelError
        As `evaluate_probability`, or fewer than one bin is asked for.

    References
    ----------
    Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using
    Bayesian binning".
    """
    outcome, probability = check_forecast(y, p)
    if bins < 1:
        raise ModelError(f"reliability was asked for {bins} bins; expected at least 1")
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(probability)))
    return ReliabilityBins(
        count=np.array([len(part) for part in parts], dtype=np.int64),
        predicted=np.array([probability[part].mean() for part in parts]),
        observed=np.array([outcome[part].mean() for part in parts]),
    )


def predicted_over_observed(y: npt.ArrayLike, p: npt.ArrayLike) -> float | None:
    """Predicted over observed count, ``Σ p / Σ y``; None if nothing happened."""
    outcome, probability = check_forecast(y, p)
    observed = outcome.sum()
    return float(probability.sum() / observed) if observed > 0.0 else None


def calibration_line(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[float, float] | None:
    """Slope and intercept of the joint logistic regression of ``y`` on ``logit p``.

    Unpenalised maximum likelihood; a perfect forecast has slope 1 and intercept 0. ``p`` is
    clipped as for the log loss, so that its logit is finite. None where the maximum does not
    exist: one class, a constant forecast, or classes that ``p`` splits perfectly.

    Raises
    ------
    ModelError
        As `evaluate_probability`.

    References
    ----------
    Cox (1958), "Two further applications of a model for binary regression"; Van Calster et al.
    (2019), "Calibration: the Achilles heel of predictive analytics".
    """
    outcome, probability = check_forecast(y, p)
    clipped = clip_probability(probability)
    logit = np.log(clipped) - np.log1p(-clipped)
    if logit.min() == logit.max() or separable(logit, outcome):
        return None
    return fit_line(logit, outcome)


def evaluate_probability(
    y: npt.ArrayLike, p: npt.ArrayLike, training_base_rate: float
) -> ProbabilityMetrics:
    """All figures of one forecast.

    Parameters
    ----------
    y:
        Outcomes, 0 or 1, shape (n,), n > 0.
    p:
        Probabilities in [0, 1], shape (n,).
    training_base_rate:
        Share of positives in the fit rows: the constant that Brier skill is measured against.

    Returns
    -------
    ProbabilityMetrics
        Every key of ``evaluate --json``. AUC, average precision and the calibration line are None
        on one class, `ece_over_base_rate` and `top_decile_ratio` where nothing happened, and
        Brier skill where the constant forecast is perfect.

    Raises
    ------
    ModelError
        Empty or unequal arrays, an outcome that is not 0 or 1, a probability or base rate that
        is NaN or outside [0, 1].

    References
    ----------
    scikit-learn, "Metrics and scoring: classification metrics".
    """
    outcome, probability = check_forecast(y, p)
    if not 0.0 <= training_base_rate <= 1.0:
        raise ModelError(f"training base rate {training_base_rate!r} is not in [0, 1]")
    bins = reliability_bins(outcome, probability)
    ece = bins.expected_calibration_error
    base_rate = float(outcome.mean())
    brier = float(np.mean((probability - outcome) ** 2))
    constant_brier = float(np.mean((training_base_rate - outcome) ** 2))
    auc, average_precision = _discrimination(outcome, probability)
    line = calibration_line(outcome, probability)
    return ProbabilityMetrics(
        auc=auc,
        average_precision=average_precision,
        brier=brier,
        brier_skill=1.0 - brier / constant_brier if constant_brier > 0.0 else None,
        log_loss=float(log_loss_rows(outcome, probability).mean()),
        ece=ece,
        ece_over_base_rate=ece / base_rate if base_rate > 0.0 else None,
        calibration_slope=line[0] if line else None,
        calibration_intercept=line[1] if line else None,
        top_decile_ratio=bins.top_ratio,
    )


def _discrimination(y: FloatArray, p: FloatArray) -> tuple[float | None, float | None]:
    if y.min() == y.max():
        return None, None
    # scikit-learn takes seconds to import; the other figures do not need it.
    from sklearn.metrics import average_precision_score, roc_auc_score

    return float(roc_auc_score(y, p)), float(average_precision_score(y, p))


def check_forecast(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Outcomes and probabilities as float64, both of shape (n,).

    Raises
    ------
    ModelError
        No rows, shapes that differ, outcomes other than 0 and 1, or probabilities outside [0, 1].
    """
    outcome = np.asarray(y, dtype=np.float64)
    probability = np.asarray(p, dtype=np.float64)
    if outcome.ndim != 1 or outcome.shape != probability.shape or len(outcome) == 0:
        raise ModelError(
            f"metrics were given outcomes {outcome.shape} and probabilities {probability.shape}; "
            "expected two arrays of one shape (n,) with n > 0: check the span of the test rows"
        )
    if not ((outcome == 0.0) | (outcome == 1.0)).all():
        raise ModelError("metrics need outcomes of 0 or 1; check the labels")
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise ModelError("metrics need probabilities in [0, 1] without NaN; check the model")
    return outcome, probability
