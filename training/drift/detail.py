"""Drift for readers: the bins of each column and the effect of each week."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.clock import DAY, format_time
from models.drift.distances import ks_distance, missing_share
from training.drift.reference import Profile, Reference


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


def _shares(counts: npt.NDArray[np.int64]) -> list[float] | None:
    total = int(counts.sum())
    return None if total == 0 else [float(share) for share in counts / total]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
