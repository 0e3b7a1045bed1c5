"""Curves of a forecast: reliability with its intervals, and precision against recall."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from training.evaluation.metrics import BINS, check_forecast

Floats = npt.NDArray[np.float64]

CURVE_POINTS = 60
ALERT_BUDGETS = (0.01, 0.05)
"""Shares of account-hours that a desk can review."""


def reliability(y: npt.ArrayLike, p: npt.ArrayLike, day_index: npt.ArrayLike) -> dict[str, Any]:
    """At most ten bins of equal expected events, with a 95% interval of the share of each.

    Rows are sorted by p (stable) and cut where ``Σ p`` passes a further tenth of its total. With
    a base rate of 1% nine of ten bins of equal count would expect next to no event and show
    nothing; here each expects as many as the others. A row that holds more than a tenth makes
    fewer bins.

    Wilson's interval at the effective number of rows ``n / max(1, deff)``, where deff is the
    variance of the share with days as clusters over the binomial one: accounts of a day share
    one market, so a thousand rows of a day are far fewer than a thousand facts. A bin without
    events still has an upper bound.

    Parameters
    ----------
    y, p:
        Outcomes (0 or 1) and probabilities, shape (n,).
    day_index:
        Day of each row, any integers, shape (n,).

    Returns
    -------
    dict
        ``predicted``, ``observed``, ``low``, ``high``, ``count``: one list entry a bin, in rising
        order of p.

    Raises
    ------
    ModelError
        As `training.evaluation.metrics.check_forecast`.

    References
    ----------
    Wilson (1927), JASA 22, 209-212; Korn and Graubard (1998), "Confidence intervals for
    proportions with small expected number of positive counts".
    """
    outcome, probability = check_forecast(y, p)
    day = np.asarray(day_index)
    bins = _equal_expectation(probability)
    observed = [float(outcome[part].mean()) for part in bins]
    bounds = [
        wilson_interval(share, len(part) / design_effect(outcome[part], day[part]))
        for share, part in zip(observed, bins, strict=True)
    ]
    return {
        "predicted": [float(probability[part].mean()) for part in bins],
        "observed": observed,
        "low": [low for low, _ in bounds],
        "high": [high for _, high in bounds],
        "count": [len(part) for part in bins],
    }


def _equal_expectation(probability: Floats) -> list[npt.NDArray[np.intp]]:
    """Rows of each bin, in rising order of their probability."""
    order = np.argsort(probability, kind="stable")
    below = np.cumsum(probability[order])
    if below[-1] == 0.0:
        return [order]
    ends = np.searchsorted(below, below[-1] * np.arange(1, BINS) / BINS) + 1
    return [part for part in np.split(order, ends) if len(part)]


def wilson_interval(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share observed in `n` (effective) trials, within [0, 1]."""
    z = float(ndtri((1.0 + level) / 2.0))
    centre = share + z * z / (2.0 * n)
    half = z * float(np.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n)))
    scale = 1.0 + z * z / n
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if share <= 0.0 else (centre - half) / scale
    high = 1.0 if share >= 1.0 else (centre + half) / scale
    return low, high


def design_effect(y: Floats, day: npt.NDArray[Any]) -> float:
    """Clustered over binomial variance of the mean of `y`, at least 1; 1 with fewer than two days.

    ``Σ_d (Σ_{i in d} (yᵢ − ȳ))² · D/(D − 1)`` over ``n·ȳ(1 − ȳ)``.
    """
    _, code = np.unique(day, return_inverse=True)
    days = int(code.max()) + 1
    share = float(y.mean())
    if days < 2 or not 0.0 < share < 1.0:
        return 1.0
    residual = np.bincount(code, weights=y - share)
    clustered = float((residual**2).sum()) * days / (days - 1.0)
    return max(1.0, clustered / (len(y) * share * (1.0 - share)))


def precision_recall(y: npt.ArrayLike, p: npt.ArrayLike) -> list[list[float]]:
    """Points ``[recall, precision]`` of the curve, thinned to even steps of recall.

    Empty where nothing happened. The first point is that of the highest threshold.

    References
    ----------
    scikit-learn, ``precision_recall_curve``; Davis and Goadrich (2006).
    """
    # scikit-learn takes seconds to import.
    from sklearn.metrics import precision_recall_curve

    if not np.asarray(y).any():
        return []
    precision, recall, _ = precision_recall_curve(y, p)
    precision, recall = precision[-2::-1], recall[-2::-1]  # without the made-up end at recall 0
    levels = np.linspace(0.0, 1.0, CURVE_POINTS + 1)[1:]
    at = np.unique(np.searchsorted(recall, levels, side="left").clip(max=len(recall) - 1))
    return [[float(recall[i]), float(precision[i])] for i in at]


def recall_at_budgets(y: npt.ArrayLike, p: npt.ArrayLike) -> dict[str, float | None]:
    """Share of the events that are among the rows with the highest p, for each alert budget.

    A budget b allows ``max(1, round(b·n))`` alerts; ties keep the order of the rows. None where
    nothing happened.
    """
    outcome = np.asarray(y, dtype=np.float64)
    order = np.argsort(-np.asarray(p, dtype=np.float64), kind="stable")
    total = outcome.sum()
    recalls: dict[str, float | None] = {}
    for budget in ALERT_BUDGETS:
        alerts = max(1, round(budget * len(order)))
        recalls[f"{budget:g}"] = float(outcome[order[:alerts]].sum() / total) if total else None
    return recalls
