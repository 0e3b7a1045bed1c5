"""Gates of a retraining: bounds on a live book, calibration, baselines, stress, the champion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from decisions.decision import decide
from decisions.messages import AccountProblem
from margin.rules.ruleset import RuleSet
from market.core.errors import MargincastError, ModelError
from models.bundle.bundle import Bundle, load_bundle
from models.bundle.pointer import CHAMPION
from models.forecaster import Forecaster
from models.gates import (
    Gate,
    Kind,
    bounds_gate,
    calibration_gates,
    not_worse_gate,
    procyclicality_gates,
    requirement_change_gate,
    stress_gate,
    uncovered_loss_gate,
    weak_segments_gate,
)
from pipelines.config.config import Config
from pipelines.data.accounts import sample_book
from pipelines.data.loaders import Market
from training.backtest.backtest import BacktestSettings
from training.backtest.release_checks import compare_procyclicality, compare_uncovered
from training.evaluation.bootstrap import ece_quantile, holm_adjusted, skill_interval, utc_day
from training.evaluation.evaluate import BOOTSTRAP_SEED, FLOOR_BASELINE, MODEL, Forecasts, forecast
from training.evaluation.metrics import clip_probability, log_loss_rows, log_loss_skill
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import Dataset
from training.labels.market_path import LabelMarket

LEAST_EVENTS = 200
"""A segment is tested if it has more events than this."""

_BOUNDS_ACCOUNTS = 2_000


def check_bounds(config: Config, market: Market, ruleset: RuleSet, bundle: Bundle) -> Gate:
    """Decide on a sampled book at the newest close and count add-ons out of bounds."""
    accounts, snapshot = sample_book(config, market, _BOUNDS_ACCOUNTS)
    outcomes = decide(accounts, snapshot, ruleset, Forecaster(bundle), {})
    outside = sum(
        not (
            isinstance(outcome, AccountProblem)
            or outcome.floor <= outcome.add_on <= max(outcome.floor, outcome.cap)
        )
        for outcome in outcomes
    )
    return bounds_gate(outside, len(outcomes))


def calibrated_and_better(
    test: Dataset, forecasts: Forecasts, evaluation: Mapping[str, Any]
) -> list[Gate]:
    """Calibration of every horizon, and its skill against the isotonic first passage."""
    gates: list[Gate] = []
    days = utc_day(test.time)
    for h, hours in enumerate(test.horizons):
        y, models = test.labels[:, h], forecasts.by_horizon[hours]
        figures = evaluation["horizons"][str(hours)]
        quantile = ece_quantile(y, models[MODEL], days, n=200, seed=BOOTSTRAP_SEED)
        gates += calibration_gates(
            hours, figures["models"][MODEL], quantile, figures["predicted_over_observed"]
        )
        gates.append(_baseline_gate(test, hours, models[MODEL], FLOOR_BASELINE, models, "safety"))
    return gates


def stress_and_segments(evaluation: Mapping[str, Any]) -> list[Gate]:
    """All stress windows together against the isotonic first passage, segments against the best.

    Holm's correction is over all segments and horizons with more than `LEAST_EVENTS` events. On a
    simulated market these gates are for the report only; without a stress window in the test span
    there is no stress gate.
    """
    kind: Kind = "stress" if evaluation["data"]["prices"] == "real" else "report"
    gates = [
        stress_gate(
            int(hours),
            FLOOR_BASELINE,
            figures["log_loss_skill"],
            figures["log_loss_skill_ci95"],
            len(figures["windows"]),
            kind,
        )
        for hours, figures in evaluation["stress_pooled"].items()
        if figures["rows"]
    ]
    p_values = {
        f"{segmentation} {band} at {hours} h": figures["worse_p"]
        for hours, horizon in evaluation["horizons"].items()
        for segmentation, bands in horizon["segments"].items()
        for band, figures in bands.items()
        if figures["observed"] > LEAST_EVENTS and figures["worse_p"] is not None
    }
    return [*gates, weak_segments_gate(holm_adjusted(p_values), LEAST_EVENTS, kind)]


def requirement_change(change: Mapping[str, Any] | None, ruleset: RuleSet) -> list[Gate]:
    """The change of the reference book's requirement against the limit of the rule set.

    `change` is that of `pipelines.jobs.drift.compare_with_champion`: without a champion, or one
    that this version can serve, there is none and no gate.
    """
    if change is None or change["material"] is None:
        return []
    return [
        requirement_change_gate(
            change["total_requirement"]["change"],
            ruleset.promotion_or_default.max_requirement_change,
            change["accounts"],
        )
    ]


def _baseline_gate(
    test: Dataset,
    hours: int,
    forecast: npt.NDArray[np.float64],
    name: str,
    models: Mapping[str, npt.NDArray[np.float64]],
    kind: Kind,
) -> Gate:
    y = test.labels[:, test.horizons.index(hours)]
    loss, baseline = (log_loss_rows(y, clip_probability(p)) for p in (forecast, models[name]))
    return not_worse_gate(
        hours,
        name,
        log_loss_skill(float(loss.mean()), float(baseline.mean())),
        skill_interval(loss, baseline, utc_day(test.time), seed=BOOTSTRAP_SEED),
        kind,
    )


def no_worse_than_champion(
    root: Path, champion: str | None, sha: str, test: Dataset, forecasts: Forecasts
) -> list[Gate]:
    """The champion on the same rows; none where there is none, or it is this very bundle.

    A champion that reads columns which this version does not compute cannot be served either: it
    holds nothing back, and a gate says so.
    """
    if champion is None or champion == sha:
        return []
    try:
        incumbent = forecast(load_bundle(root / champion), test)
    except ModelError as error:
        return [Gate("comparable_with_champion", "report", False, None, 0.0, str(error))]
    return [
        _baseline_gate(
            test,
            hours,
            forecasts.by_horizon[hours][MODEL],
            CHAMPION,
            {CHAMPION: incumbent.by_horizon[hours][MODEL]},
            "promotion",
        )
        for hours in test.horizons
    ]


def add_on_gates(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    candidate: Bundle,
    champion: Path | None,
    settings: BacktestSettings,
) -> list[Gate]:
    """The add-on: how much it moves margin, and its uncovered loss beside the champion's.

    Parameters
    ----------
    market, intervals, ruleset:
        As in `training.backtest.backtest.backtest`.
    candidate:
        The new model.
    champion:
        Folder of the champion; None where there is none, or it is the candidate.
    settings:
        Spans and sample.

    Returns
    -------
    None are given where the data do not suffice: a gate of kind ``report`` says why. A champion
    that this version cannot serve is not compared.
    """
    ours = Forecaster(candidate)
    inputs = market, intervals, ruleset
    try:
        figures, simple = compare_procyclicality(*inputs, ours, settings)
        gates = procyclicality_gates(figures, simple, ruleset.add_on.procyclicality_limits)
        if champion is None:
            return gates
        theirs = Forecaster(load_bundle(champion))
        found = compare_uncovered(*inputs, ours, theirs, settings)
    except MargincastError as error:
        return [Gate("add_on_comparable", "report", False, None, 0.0, str(error))]
    if found.ratio is not None:
        gates.append(uncovered_loss_gate(found.ratio, found.interval))
    return gates
