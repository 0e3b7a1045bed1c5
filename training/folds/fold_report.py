"""The report of a fold: a training on its rows, evaluated on the rows held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.clock import format_time
from market.core.errors import ModelError
from training.evaluation.bootstrap import utc_day
from training.evaluation.evaluate import Forecasts, evaluate
from training.fitting.candidate import fit_candidate
from training.fitting.hyperparameters import DEFAULTS, Hyperparameters
from training.folds.cut import Fold
from training.folds.day_totals import DayTotals
from training.folds.skill_figures import skill_table
from training.labels.dataset import Dataset
from training.labels.splits import Block

FOLD_SEED = 20_240_102


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a fold gave.

    Attributes
    ----------
    report:
        See `evaluate_fold`.
    totals:
        Sums by day of the rows held out, by horizon; empty where the fold was not evaluated.
    """

    report: dict[str, Any]
    totals: Mapping[int, DayTotals] = field(default_factory=dict)


def evaluate_fold(
    data: Dataset,
    fold: Fold,
    rows: int,
    description: Mapping[str, str],
    symbols: tuple[str, ...],
    threads: int | None = None,
    settings: Hyperparameters = DEFAULTS,
) -> FoldResult:
    """Train on a fold and evaluate it on the rows held out.

    It trains with weights and is evaluated without. Of both sides at most `rows` are drawn (fit
    and calibrate together), so that a fold costs a bounded time whatever the size of the data:
    the figures compare models within the fold, and are not those of a model trained on all rows.
    Plain LightGBM with the forecast distances, which is no baseline, is fitted for walk-forward
    blocks alone.

    Parameters
    ----------
    data, fold:
        All rows, and which of them are trained on and held out.
    rows:
        The most that are drawn.
    description, symbols:
        See `training.evaluation.evaluate.evaluate`.
    threads, settings:
        See `training.fitting.candidate.fit_candidate`.

    Returns
    -------
    FoldResult
        Its report has ``name``, ``kind``, ``rows`` by block, ``learnt_from`` and ``held_out``
        (first and last decision time), ``skill`` (`skill_table` by horizon) and ``evaluation``
        (the object of ``evaluate --json``); where the fold is too small to train on,
        ``not_evaluated`` with the reason takes the place of the two.
    """
    chosen = _sample_rows(fold.block, rows)
    part, block = data.take(chosen), fold.block[chosen]
    counts = {
        each.name.lower(): int((block == each).sum())
        for each in (Block.FIT, Block.CALIBRATE, Block.TEST)
    }
    report: dict[str, Any] = {
        "name": fold.name,
        "kind": fold.kind,
        "rows": counts,
        "held_out": _span(part.time[block == Block.TEST]),
        "learnt_from": _span(part.time[(block == Block.FIT) | (block == Block.CALIBRATE)]),
    }
    empty = [name for name, count in counts.items() if not count]
    if empty:
        reason = (
            f"no row to {' and to '.join(empty)} is left; use a longer span, fewer folds, or a "
            "data set with both samples on every span"
        )
        return FoldResult(report | {"not_evaluated": reason})
    try:
        test = part.take(np.flatnonzero(block == Block.TEST))
        candidate = fit_candidate(
            part,
            block,
            with_plain_forecast=fold.kind == "walk_forward",
            threads=threads,
            settings=settings,
        )
        forecasts = candidate.forecast(test)
        evaluation = evaluate(test, forecasts, _training(part, block), description, symbols)
        totals = forecast_totals(test, forecasts)
        skill = {str(hours): skill_table(sums) for hours, sums in totals.items()}
    except ModelError as error:
        return FoldResult(report | {"not_evaluated": str(error)})
    # Training rows may lie on both sides of the test rows; no label window is shared.
    evaluation["overlap_with_training_hours"] = 0.0
    return FoldResult(report | {"skill": skill, "evaluation": evaluation}, totals)


def forecast_totals(data: Dataset, forecasts: Forecasts) -> dict[int, DayTotals]:
    """Sums by day of every model's forecasts of these rows, by horizon."""
    days = utc_day(data.time)
    return {
        hours: DayTotals.of(data.labels[:, h], forecasts.by_horizon[hours], days)
        for h, hours in enumerate(data.horizons)
    }


def _training(part: Dataset, block: npt.NDArray[np.int8]) -> dict[str, Any]:
    """Span and base rates of the training rows, as in a bundle's manifest."""
    fit = np.flatnonzero(block == Block.FIT)
    time = part.time[(block == Block.FIT) | (block == Block.CALIBRATE)]
    rates = np.average(part.labels[fit], axis=0, weights=part.weight[fit])
    return {
        "span_ns": [int(time[0]), int(time[-1])],
        "base_rates": {
            str(hours): float(rate) for hours, rate in zip(part.horizons, rates, strict=True)
        },
    }


def _sample_rows(block: npt.NDArray[np.int8], most: int) -> npt.NDArray[np.intp]:
    """Rows of the fold, thinned evenly by a seeded draw, in their order."""
    rng = np.random.default_rng(FOLD_SEED)
    train = (block == Block.FIT) | (block == Block.CALIBRATE)
    parts = [
        part if len(part) <= most else rng.choice(part, most, replace=False)
        for part in (np.flatnonzero(train), np.flatnonzero(block == Block.TEST))
    ]
    return np.sort(np.concatenate(parts))


def _span(time: npt.NDArray[np.int64]) -> list[str]:
    return [format_time(int(time[0])), format_time(int(time[-1]))] if len(time) else []
