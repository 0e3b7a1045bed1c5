"""How long before a call an alert stands, as far as labels at several horizons tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALERT_BUDGET = 0.01
"""Share of all rows that are alerted: those with the highest probability."""


def lead_times(
    labels: npt.NDArray[np.int8],
    horizons: Sequence[int],
    p: Floats,
    groups: Mapping[str, npt.NDArray[np.bool_]],
) -> dict[str, dict[str, Any]]:
    """Which calls of each group are alerted, and how long before.

    A row is alerted if its probability is among the highest `ALERT_BUDGET` of all rows. A row
    that is called comes (0, h1], (h1, h2], … hours before its call: labels say no more.

    Parameters
    ----------
    labels:
        1 where the call comes within the horizon, shape (n, H), horizons rising.
    horizons:
        In hours, length H.
    p:
        Probability that decides the alerts, without NaN, shape (n,).
    groups:
        Masks of the rows by name, shape (n,).

    Returns
    -------
    dict
        By group: ``alert_budget``; ``found``, by interval (``"0-1"``, ``"1-8"``, …) the share of
        the rows so long before their call that are alerted, null without such rows;
        ``median_hours``, the ends of the interval that has the median time to the call of the
        alerted rows that are called, null without any.
    """
    alerts = np.zeros(len(p), dtype=np.bool_)
    order = np.argsort(-p, kind="stable")
    alerts[order[: max(1, round(ALERT_BUDGET * len(p)))]] = True
    # 0 for the shortest horizon that has the call, H for none.
    distance = len(horizons) - np.asarray(labels, dtype=np.int64).sum(axis=1)
    edges = (0, *horizons)
    report: dict[str, dict[str, Any]] = {}
    for name, rows in groups.items():
        found: dict[str, float | None] = {}
        counts: list[int] = []
        for k, (low, high) in enumerate(pairwise(edges)):
            called = rows & (distance == k)
            counts.append(int((called & alerts).sum()))
            total = int(called.sum())
            found[f"{low}-{high}"] = counts[-1] / total if total else None
        middle = np.searchsorted(np.cumsum(counts), sum(counts) / 2.0) if any(counts) else None
        report[name] = {
            "alert_budget": ALERT_BUDGET,
            "found": found,
            "median_hours": None if middle is None else [edges[middle], edges[middle + 1]],
        }
    return report
