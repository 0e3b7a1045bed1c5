"""The review of a model: figures of the test rows, the walk-forward blocks and the backtest, which
a retraining computes and records in the ledger, and an endpoint shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from market.core.errors import ModelError
from models.bundle.bundle import Bundle

MODEL_REVIEW = "model_review"
"""Kind of the records of the ledger."""

_FORMAT = 1

Interval = tuple[float, float]


class Reliability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bins of equal expected calls in rising order of the probability.

    Attributes
    ----------
    predicted, observed:
        Mean probability, and share of calls, of each bin.
    low, high:
        95% interval of the share.
    count:
        Rows of each bin.
    """

    predicted: list[float]
    observed: list[float]
    low: list[float]
    high: list[float]
    count: list[int]


class SpanSkill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well the model did in a month, or in a walk-forward block.

    Attributes
    ----------
    rows, observed:
        Account-times, and calls among them.
    predicted_over_observed:
        Sum of the probabilities over the calls; None without a call.
    log_loss_skill, log_loss_skill_ci95:
        1 - log loss of the model over that of the best baseline, and its 95% interval; None where
        they are not defined.
    """

    rows: int
    observed: int
    predicted_over_observed: float | None
    log_loss_skill: float | None
    log_loss_skill_ci95: Interval | None


class HorizonReview(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of one horizon on the test rows.

    Attributes
    ----------
    base_rate, positives:
        Share and number of the rows with a call.
    best_baseline:
        The baseline with the lowest log loss.
    log_loss_skill, log_loss_skill_ci95:
        As of `SpanSkill`, on all test rows.
    oracle_gap_closed:
        Share of the distance between the best baseline and the volatility oracle that the model
        covers; None without an oracle.
    reliability:
        Probabilities against what happened.
    months:
        By UTC month, such as ``2025-04``.
    blocks:
        By first time of a walk-forward block: models that were fitted before it.
    contributions:
        By feature, the mean absolute deviation of its contribution to the raw score, log odds.
    """

    base_rate: float
    positives: int
    best_baseline: str
    log_loss_skill: float | None
    log_loss_skill_ci95: Interval | None
    oracle_gap_closed: float | None
    reliability: Reliability
    months: dict[str, SpanSkill]
    blocks: dict[str, SpanSkill]
    contributions: dict[str, float]


class Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a record of kind `MODEL_REVIEW`.

    Attributes
    ----------
    format:
        Version of the content.
    bundle:
        SHA-256 of the bundle.
    span:
        First and last time of the test rows, ISO 8601.
    rows:
        Number of test rows.
    horizons:
        By horizon in hours.
    frontier:
        By policy, pairs of average add-on and uncovered loss, both shares of the gross notional.
    absent:
        By part (``blocks``, ``frontier``) why it is empty.
    """

    format: int
    bundle: str
    span: tuple[str, str]
    rows: int
    horizons: dict[int, HorizonReview]
    frontier: dict[str, list[tuple[float, float]]]
    absent: dict[str, str]

    @classmethod
    def of(
        cls,
        bundle: str,
        span: tuple[str, str],
        rows: int,
        horizons: dict[int, HorizonReview],
        frontier: dict[str, list[tuple[float, float]]],
        absent: dict[str, str],
    ) -> Review:
        """A review in the format of this version."""
        return cls(_FORMAT, bundle, span, rows, horizons, frontier, absent)

    def payload(self) -> dict[str, Any]:
        """The payload of its record."""
        built: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return built


def parse_review(payload: Mapping[str, Any], bundle: Bundle) -> Review:
    """The review in a record, checked against its bundle.

    Raises
    ------
    ModelError
        It is malformed, of another format or bundle, or does not fit the bundle's horizons.
    """
    try:
        review = msgspec.convert(payload, Review, strict=False, str_keys=True)
        _check(review, bundle)
    except (msgspec.MsgspecError, ModelError) as error:
        raise ModelError(
            f"the review of bundle {bundle.sha256} on record cannot be read ({error}); retrain the "
            "model with this version"
        ) from error
    return review


def _check(review: Review, bundle: Bundle) -> None:
    if review.format != _FORMAT:
        raise ModelError(f"it has format {review.format}; this version reads {_FORMAT}")
    if review.bundle != bundle.sha256:
        raise ModelError(f"it is of bundle {review.bundle}")
    horizons = bundle.schema.horizons
    if set(review.horizons) != set(horizons):
        raise ModelError(
            f"its horizons are {sorted(review.horizons)}, the model's {list(horizons)}"
        )
    for hours, figures in review.horizons.items():
        bins = figures.reliability
        parts = (bins.predicted, bins.observed, bins.low, bins.high)
        if any(len(part) != len(bins.count) for part in parts):
            raise ModelError(f"its reliability bins of {hours} h differ in number")
        if not all(0.0 <= share <= 1.0 for part in parts for share in part):
            raise ModelError(f"its reliability bins of {hours} h are not all shares")
    values = (value for points in review.frontier.values() for point in points for value in point)
    if not all(map(math.isfinite, values)):
        raise ModelError("its frontier has figures that are not finite")
