"""Drift for readers: bins, weeks, and the loss that is expected without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.clock import DAY, format_time
from models.drift.distances import ks_distance, missing_share
from training.drift.profile import SUMS, OutcomeSums
from training.drift.reference import Profile, Reference

Floats = npt.NDArray[np.float64]

RESAMPLES = 2_000

_AT = {name: i for i, name in enumerate(SUMS)}


def distribution_detail(reference: Reference, current: Profile) -> dict[str, Any]:
    """Shares of the bins and the effect of each week, by monitored column.

    Returns
    -------
    dict
        By column ``reference`` and ``current``, the share of the rows with a value in each bin
        (None where no row has one); ``missing``, the share without, of both; ``weeks``, for each
        block of the span its begin, rows and Kolmogorov-Smirnov distance from the reference (None
        where it has no value).
    """
    before, now = reference.profile.histograms.counts.sum(axis=0), current.histograms.counts
    begins = [
        format_time(int(number) * reference.days * DAY) for number in current.histograms.block
    ]
    detail: dict[str, Any] = {}
    for c, name in enumerate(reference.columns):
        bins = len(reference.edges[c]) + 1
        effects = ks_distance(before[c, :-1], now[:, c, :-1])
        detail[name] = {
            "reference": _shares(before[c, :bins]),
            "current": _shares(now[:, c, :bins].sum(axis=0)),
            "missing": [
                float(missing_share(counts)) for counts in (before[c], now[:, c].sum(axis=0))
            ],
            "weeks": [
                {"begin": begin, "rows": int(rows), "effect": _finite(effect)}
                for begin, rows, effect in zip(begins, now[:, c].sum(axis=-1), effects, strict=True)
            ],
        }
    return detail


def expected_performance(
    outcomes: OutcomeSums, horizons: Sequence[int], *, resamples: int = RESAMPLES, seed: int = 1
) -> dict[str, Any]:
    """Log loss expected from the probabilities alone, beside the one realised, by horizon.

    Confidence-based performance estimation: if probabilities p are calibrated, the outcome of a
    row is Bernoulli(p) and its expected log loss is its entropy,
    ``E = (1/n) Σ [−p log p − (1 − p) log(1 − p)]``; the expected number of calls is Σp. Neither
    reads a label. The estimate rests on calibration: where that is lost, it misses the loss of
    it, and ``difference`` (realised less expected) shows by how much.

    Parameters
    ----------
    outcomes:
        Sums by block of days.
    horizons:
        In hours, one for each horizon of the sums.
    resamples, seed:
        Of the bootstrap of whole blocks, which keeps rows of one market together.

    Returns
    -------
    dict
        By horizon ``expected_log_loss``, ``realised_log_loss`` and ``difference`` in nats, each
        with a 95% interval under ``…_ci95`` (None with fewer than two blocks);
        ``expected_calls`` and ``observed_calls``; ``rows``; ``blocks``.

    References
    ----------
    Garg et al. (2022), "Leveraging unlabeled data to predict out-of-distribution performance"
    (average confidence, the same estimate for accuracy).
    """
    blocks = len(outcomes.block)
    drawn = np.random.default_rng(seed).integers(0, blocks, (resamples, blocks))
    report: dict[str, Any] = {}
    for h, hours in enumerate(horizons):
        sums = outcomes.sums[:, h]
        total, sampled = _losses(sums.sum(axis=0)), _losses(sums[drawn].sum(axis=1))
        figures: dict[str, Any] = {}
        for name, value in total.items():
            figures[name] = float(value)
            figures[f"{name}_ci95"] = (
                None if blocks < 2 else np.quantile(sampled[name], [0.025, 0.975]).tolist()
            )
        report[str(hours)] = figures | {
            "expected_calls": float(sums[:, _AT["predicted"]].sum()),
            "observed_calls": int(sums[:, _AT["observed"]].sum()),
            "rows": int(sums[:, _AT["rows"]].sum()),
            "blocks": blocks,
        }
    return report


def _losses(sums: Floats) -> dict[str, Floats]:
    rows = sums[..., _AT["rows"]]
    expected, realised = (sums[..., _AT[name]] / rows for name in ("expected_loss", "loss"))
    return {
        "expected_log_loss": expected,
        "realised_log_loss": realised,
        "difference": realised - expected,
    }


def _shares(counts: npt.NDArray[np.int64]) -> list[float] | None:
    total = int(counts.sum())
    return None if total == 0 else [float(share) for share in counts / total]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
