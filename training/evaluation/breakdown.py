"""Figures of a forecast by group: calendar months, stress windows, segments of accounts.

The bounds of the segments are fixed numbers, not quantiles of a sample and not parameters of a
population, so that the same segment means the same in every report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from features.registry import ACCOUNT_COLUMNS
from training.evaluation.bootstrap import GroupSkill, group_skills, utc_day
from training.evaluation.metrics import clip_probability, log_loss_rows, log_loss_skill
from training.evaluation.stress import STRESS_WINDOWS
from training.labels.dataset import Dataset

Floats = npt.NDArray[np.float64]
Groups = dict[str, npt.NDArray[np.bool_]]

RESAMPLES = 4000
"""So many that Holm's smallest level over dozens of groups can still be undercut."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One way to divide accounts into bands.

    Attributes
    ----------
    name, quantity:
        For the reader.
    edges:
        Rising; k edges make k + 1 bands, the lower edge inside.
    labels:
        Of the bands, from the lowest.
    value:
        The quantity of each row, shape (n,); rows where it is NaN are in no band.
    """

    name: str
    quantity: str
    edges: tuple[float, ...]
    labels: tuple[str, ...]
    value: Callable[[Dataset], Floats]


def _feature(name: str) -> Callable[[Dataset], Floats]:
    return lambda data: data.features[:, ACCOUNT_COLUMNS.index(name)]


def _leverage(data: Dataset) -> Floats:
    """Gross notional over equity: ``(1 − MM/E) / (headroom/gross)``."""
    return _ratio(1.0 - data.columns["margin_ratio"], _feature("headroom_share")(data))


def _volatility_ratio(data: Dataset) -> Floats:
    fast = _feature("book_ewma_volatility_12h")(data)
    slow = _feature("book_realised_volatility_168h")(data)
    return _ratio(fast, slow)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """NaN where the bottom is not above 0."""
    ratio = np.full(len(top), np.nan)
    np.divide(top, bottom, out=ratio, where=bottom > 0.0)
    return ratio


SEGMENTATIONS = (
    Segmentation(
        "leverage",
        "gross notional over equity",
        (3.0, 8.0, 20.0),
        ("under 3", "3 to 8", "8 to 20", "over 20"),
        _leverage,
    ),
    Segmentation(
        "concentration",
        "Herfindahl index of the legs",
        (0.5, 0.9),
        ("spread, under 0.5", "0.5 to 0.9", "one leg, over 0.9"),
        _feature("herfindahl"),
    ),
    Segmentation(
        "direction",
        "net over gross notional",
        (-0.5, 0.5),
        ("short, under -0.5", "mixed", "long, over 0.5"),
        _feature("net_share"),
    ),
    Segmentation(
        "volatility regime",
        "fast over slow volatility of the book (12 h over 168 h)",
        (0.75, 1.25),
        ("falling, under 0.75", "steady", "rising, over 1.25"),
        _volatility_ratio,
    ),
    Segmentation(
        "market exposure",
        "correlation of the book with the market factor",
        (-0.5, 0.5),
        ("against, under -0.5", "weak", "with it, over 0.5"),
        _feature("market_exposure"),
    ),
)


def months(data: Dataset) -> Groups:
    """Rows of each UTC month, as ``2025-04``, in order."""
    month = data.time.astype("datetime64[ns]").astype("datetime64[M]")
    return {str(name): month == name for name in np.unique(month)}


def stress_windows(data: Dataset) -> Groups:
    """Rows of each stress window that the data touch."""
    inside = {
        window.name: (data.time >= window.start) & (data.time < window.end)
        for window in STRESS_WINDOWS
    }
    return {name: rows for name, rows in inside.items() if rows.any()}


def segments(data: Dataset) -> dict[str, Groups]:
    """Rows of each band of each segmentation; bands without rows are left out."""
    groups: dict[str, Groups] = {}
    for segmentation in SEGMENTATIONS:
        value = segmentation.value(data)
        edges = (-np.inf, *segmentation.edges, np.inf)
        bands = {
            label: (value >= low) & (value < high)
            for label, (low, high) in zip(segmentation.labels, pairwise(edges), strict=True)
        }
        groups[segmentation.name] = {label: rows for label, rows in bands.items() if rows.any()}
    return groups


def breakdown(
    data: Dataset,
    hours: int,
    models: Mapping[str, Floats],
    groups: Groups,
    *,
    model: str,
    baseline: str,
    counted: tuple[str, ...],
    seed: int,
) -> dict[str, Any]:
    """Figures of one horizon in each group of rows.

    Parameters
    ----------
    data, hours:
        Rows and the horizon.
    models:
        Probabilities of all rows by model.
    groups:
        Masks of the rows by name.
    model, baseline:
        Names of the model and of the baseline that its skill is stated against.
    counted:
        Models whose predicted counts are reported.
    seed:
        Seed of the resamples.

    Returns
    -------
    dict
        By group: ``rows``, ``observed``, ``predicted`` and ``predicted_over_observed`` (null
        where nothing happened) of the counted models, ``log_loss`` of model and baseline,
        ``log_loss_skill``, its ``log_loss_skill_ci95`` (null with fewer than two days) and
        ``worse_p``, the one-sided p-value against "the model is not worse" (null likewise).
    """
    y = data.labels[:, data.horizons.index(hours)]
    losses = {name: log_loss_rows(y, clip_probability(models[name])) for name in (model, baseline)}
    skills = group_skills(
        losses[model], losses[baseline], utc_day(data.time), groups, RESAMPLES, seed=seed
    )
    report: dict[str, Any] = {}
    for name, rows in groups.items():
        skill: GroupSkill = skills[name]
        observed = int(y[rows].sum())
        predicted = {each: float(models[each][rows].sum()) for each in counted}
        loss, baseline_loss = (float(losses[each][rows].mean()) for each in (model, baseline))
        report[name] = {
            "rows": int(rows.sum()),
            "observed": observed,
            "predicted": predicted,
            "predicted_over_observed": {
                each: count / observed if observed else None for each, count in predicted.items()
            },
            "log_loss": {model: loss, baseline: baseline_loss},
            "log_loss_skill": log_loss_skill(loss, baseline_loss),
            "log_loss_skill_ci95": skill.interval,
            "worse_p": skill.worse_p,
        }
    return report
