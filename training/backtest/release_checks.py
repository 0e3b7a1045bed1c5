"""Figures of the add-on that a release is held to, on a smaller sample than the backtest's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from margin.rules.ruleset import RuleSet
from models.forecaster import Forecaster
from training.backtest.account_hours import sample_account_hours
from training.backtest.backtest import (
    BacktestSettings,
    calibrate,
    check_inputs,
    procyclicality_table,
)
from training.backtest.policies import MODEL, PACED
from training.backtest.reference_portfolios import draw_portfolios
from training.backtest.uncovered_loss import (
    CHOICE_COVERAGE,
    Interval,
    block_of,
    flat_budget,
    match,
    ratio_interval,
    uncovered,
    with_known_levels,
)
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

RELEASE_HOURS = 25_000
"""Account-hours of the sample that two models are compared on."""

_PORTFOLIOS = 100

_REACH = 1.35
"""See `training.backtest.model_levels.REACH`: raw levels at one budget."""


@dataclass(frozen=True, slots=True)
class UncoveredRatio:
    """Uncovered loss of a candidate over a champion's at equal average level.

    Attributes
    ----------
    ratio:
        None where the champion leaves nothing uncovered.
    interval:
        95%, see `training.backtest.uncovered_loss.ratio_interval`; None where it is not defined.
    """

    ratio: float | None
    interval: Interval | None


def compare_uncovered(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    candidate: Forecaster,
    champion: Forecaster,
    settings: BacktestSettings,
) -> UncoveredRatio:
    """Compare the raw levels of two models on one sample of the test span.

    Both ask for the same average level: the one at which a flat level covers `CHOICE_COVERAGE`.

    Parameters
    ----------
    market, intervals, ruleset, settings:
        As in `training.backtest.backtest.backtest`.
    candidate, champion:
        The models.

    Raises
    ------
    DataError, ModelError
        As in `training.backtest.backtest.backtest`.
    """
    check_inputs(intervals, settings)
    hours = sample_account_hours(
        intervals,
        market,
        ruleset,
        settings.test,
        least_hours=settings.account_hours,
        seed=settings.seed,
    )
    sources, _, _ = calibrate(market, intervals, ruleset, candidate, settings)
    policies = {}
    for name, model in (("candidate", candidate), ("champion", champion)):
        of_model = sources.of_model(model).searching(
            hours.times,
            np.flatnonzero(hours.counted).astype(np.int64),
            (flat_budget(hours, CHOICE_COVERAGE)[1],) * 2,
            _REACH,
        )
        policies[name] = of_model.raw_policy(hours.times)
    hours = with_known_levels(hours, policies)
    _, budget = flat_budget(hours, CHOICE_COVERAGE)
    fall = hours.share(hours.fall)
    losses = {
        name: uncovered(fall, match(hours, policy, budget).share)
        for name, policy in policies.items()
    }
    return UncoveredRatio(*ratio_interval(losses["candidate"], losses["champion"], block_of(hours)))


def compare_procyclicality(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    forecaster: Forecaster,
    settings: BacktestSettings,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Procyclicality of the whole add-on and of the best simple estimate at equal margin.

    On reference portfolios in the test span, at the average level of the flat share that covers
    `CHOICE_COVERAGE` of the calibration account-hours. Parameters and errors as in
    `compare_uncovered`.

    Returns
    -------
    The figures of `training.backtest.reference_portfolios.procyclicality_figures` of both.
    """
    check_inputs(intervals, settings)
    sources, best_simple, hours = calibrate(market, intervals, ruleset, forecaster, settings)
    buffer, budget = flat_budget(hours, CHOICE_COVERAGE)
    portfolios = draw_portfolios(
        intervals, market, ruleset, settings.test, settings.seed, _PORTFOLIOS
    )
    times = portfolios.times
    everything = np.arange(len(times))
    sources = sources.searching(times, everything, (budget, budget))
    policies = sources.policies(times, times.owner())
    chosen = {name: policies[name] for name in (MODEL, PACED, best_simple)}
    found = procyclicality_table(portfolios, chosen, buffer)["policies"]
    return found[PACED], found[best_simple]
