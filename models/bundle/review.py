"""The review of a model that travels in its bundle: figures of the test rows, the walk-forward
blocks and the backtest, which a retraining computes and an endpoint shows.

The file ``review.json`` is optional: a bundle without it is served all the same.
"""

from __future__ import annotations

import math

import msgspec

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle
from models.bundle.schema import ModelSchema, canonical_json

REVIEW_FILE = "review.json"

_FORMAT = 1

Interval = tuple[float, float]


class Reliability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bins of equal count in rising order of the probability.

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
    """The content of ``review.json``.

    Attributes
    ----------
    format:
        Version of the file.
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
    span: tuple[str, str]
    rows: int
    horizons: dict[int, HorizonReview]
    frontier: dict[str, list[tuple[float, float]]]
    absent: dict[str, str]

    @classmethod
    def of(
        cls,
        span: tuple[str, str],
        rows: int,
        horizons: dict[int, HorizonReview],
        frontier: dict[str, list[tuple[float, float]]],
        absent: dict[str, str],
    ) -> Review:
        """A review in the format of this version."""
        return cls(_FORMAT, span, rows, horizons, frontier, absent)

    def to_bytes(self) -> bytes:
        """``review.json`` in canonical form.

        Raises
        ------
        ModelError
            A figure is not finite.
        """
        return canonical_json(msgspec.to_builtins(self, str_keys=True))


def read_review(bundle: Bundle) -> Review | None:
    """The review of a bundle; None in bundles without one.

    Raises
    ------
    BundleError
        It is malformed, of another format, or does not fit the bundle's schema.
    """
    if REVIEW_FILE not in bundle.checksums:
        return None
    try:
        review = msgspec.json.decode(bundle.read(REVIEW_FILE), type=Review)
        _check(review, bundle.schema)
    except (msgspec.MsgspecError, ModelError) as error:
        raise BundleError(
            f"{REVIEW_FILE} of bundle {bundle.sha256} is unsound ({error}); retrain the model"
        ) from error
    return review


def _check(review: Review, schema: ModelSchema) -> None:
    if review.format != _FORMAT:
        raise ModelError(f"it has format {review.format}; this version reads {_FORMAT}")
    if set(review.horizons) != set(schema.horizons):
        raise ModelError(
            f"its horizons are {sorted(review.horizons)}, the model's {list(schema.horizons)}"
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
