"""What the ledger keeps of the review of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.review import HorizonReview, Reliability, Review, SpanSkill
from training.evaluation.evaluate import MODEL

_OFF = "switched off by [review]"


def model_review(bundle: str, evaluation: Mapping[str, Any], review: Mapping[str, Any]) -> Review:
    """The review as it is recorded.

    Parameters
    ----------
    bundle:
        SHA-256 of the bundle.
    evaluation:
        The object of ``evaluate --json`` on the test rows.
    review:
        ``contributions``, ``walk_forward``, ``folds`` and ``backtest``; what is null was switched
        off, and ``not_evaluated`` gives the reason of what the data did not allow.
    """
    backtest = review["backtest"] or {}
    blocks = [
        fold for fold in review["folds"] if fold["kind"] == "walk_forward" and fold.get("skill")
    ]
    absent = {}
    if not blocks:
        absent["blocks"] = _reason(review["walk_forward"])
    if "frontier" not in backtest:
        absent["frontier"] = _reason(review["backtest"])
    return Review.of(
        bundle,
        (evaluation["span"][0], evaluation["span"][1]),
        evaluation["rows"],
        {
            int(hours): _horizon(
                figures,
                {f["held_out"][0]: f["skill"][hours] for f in blocks if hours in f["skill"]},
                review["contributions"].get(hours, {}).get("features", {}),
            )
            for hours, figures in evaluation["horizons"].items()
        },
        {
            policy: [(float(level), float(loss)) for level, loss in points]
            for policy, points in backtest.get("frontier", {}).items()
        },
        absent,
    )


def _horizon(
    figures: Mapping[str, Any], blocks: Mapping[str, Any], contributions: Mapping[str, float]
) -> HorizonReview:
    return HorizonReview(
        base_rate=figures["base_rate"],
        positives=figures["positives"],
        best_baseline=figures["best_baseline"],
        log_loss_skill=_finite(figures["log_loss_skill"]),
        log_loss_skill_ci95=_interval(figures["log_loss_skill_ci95"]),
        oracle_gap_closed=_finite(figures["oracle_gap_closed"]),
        reliability=Reliability(**figures["reliability"]),
        months={
            month: _skill(group, group["observed"], group["predicted_over_observed"].get(MODEL))
            for month, group in figures["months"].items()
        },
        blocks={
            begin: _skill(table, table["positives"], table["predicted_over_observed"])
            for begin, table in blocks.items()
        },
        contributions=dict(contributions),
    )


def _skill(figures: Mapping[str, Any], observed: int, ratio: float | None) -> SpanSkill:
    return SpanSkill(
        rows=figures["rows"],
        observed=observed,
        predicted_over_observed=_finite(ratio),
        log_loss_skill=_finite(figures["log_loss_skill"]),
        log_loss_skill_ci95=_interval(figures["log_loss_skill_ci95"]),
    )


def _reason(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return _OFF
    return str(part.get("not_evaluated", "the data allowed none"))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _interval(ends: Any) -> tuple[float, float] | None:
    return None if ends is None else (float(ends[0]), float(ends[1]))
