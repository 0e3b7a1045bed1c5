"""The add-on against other policies at equal average level: ``backtest --json``.

The first table, ``uncovered``, says whether levels reduce uncovered loss; the second, ``calls``,
what a venue's day would look like. Scalars are solved on the test span's levels without what came
after them; the best simple estimate is chosen on the calibration span.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from margin.rules.ruleset import RuleSet
from market.core.clock import DAY, format_time
from market.core.errors import DataError
from models.forecaster import Forecaster
from training.backtest.account_hours import FOLLOW_HOURS, AccountHours, sample_account_hours
from training.backtest.margin_calls import simulate_calls
from training.backtest.p_star_frontier import FACTORS, frontier_table, sample_frontier
from training.backtest.policies import (
    FLAT,
    MODEL,
    ORACLE,
    PACED,
    STRESS_QUANTILE,
    Policy,
    PolicySources,
    volatility_ratio,
)
from training.backtest.reference_portfolios import (
    ReferencePortfolios,
    coverage_figures,
    covering_buffer,
    draw_portfolios,
    procyclicality_figures,
)
from training.backtest.uncovered_loss import (
    CHOICE_COVERAGE,
    COVERAGES,
    Match,
    choose_best_simple,
    compare_at_budget,
    flat_budget,
    match,
    uncovered,
    with_known_levels,
)
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

ACCOUNT_HOURS = 250_000
CALL_HOURS = 60_000

HIGH_COVERAGE = 0.99
FRONTIER_COVERAGES = (0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
BEST_SIMPLE = "best_simple"

Span = tuple[int, int]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class BacktestSettings:
    """Spans and sample of a backtest.

    Attributes
    ----------
    calibrate, test:
        In nanoseconds: decisions close after the first, and the 24 hours that follow them no later
        than the second. The calibration span ends no later than the test span begins.
    seed, account_hours:
        Seed of the sample of each span, a hash of the account, and its least size.
    call_hours:
        Account-hours whose calls are simulated.
    """

    calibrate: Span
    test: Span
    seed: int
    account_hours: int = ACCOUNT_HOURS
    call_hours: int = CALL_HOURS


def backtest(
    market: LabelMarket,
    intervals: BookIntervals,
    behaving: BookIntervals,
    ruleset: RuleSet,
    forecaster: Forecaster,
    settings: BacktestSettings,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare the add-on with other policies: the object of ``backtest --json``.

    Parameters
    ----------
    market:
        Marks and market features.
    intervals:
        Books and when accounts hold them, without options.
    behaving:
        Accounts as their owners run them, whose calls are simulated; may be the same.
    ruleset, forecaster:
        Rules and model.
    settings:
        Spans and sample.
    progress:
        Called with the share of the work that is done, from 0 to 1.

    Returns
    -------
    Plain values; None where a figure is not defined.

    Raises
    ------
    DataError
        The spans overlap, one of them has no account-hour or no whole day, or a book holds an
        option.
    ModelError
        The rule set targets a horizon that the model does not answer.
    """
    check_inputs(intervals, settings)
    test_span = settings.test
    sources, best_simple, learnt = calibrate(market, intervals, ruleset, forecaster, settings)
    hours = _sample(market, intervals, ruleset, settings, test_span)
    budgets = {coverage: flat_budget(hours, coverage) for coverage in FRONTIER_COVERAGES}
    sources = sources.searching(
        hours.times,
        np.flatnonzero(hours.counted).astype(np.int64),
        (budgets[FRONTIER_COVERAGES[0]][1], budgets[FRONTIER_COVERAGES[-1]][1]),
    )
    portfolios = draw_portfolios(intervals, market, ruleset, test_span, settings.seed)
    owners = sample_account_hours(
        behaving, market, ruleset, test_span, least_hours=settings.call_hours, seed=settings.seed
    )
    steps = _steps([len(hours), len(portfolios.times), len(owners)], progress)
    policies = sources.policies(hours.times, hours.interval, next(steps))
    hours = with_known_levels(hours, policies)
    on_portfolios = sources.policies(portfolios.times, portfolios.times.owner(), next(steps))
    on_owners = sources.policies(owners.times, owners.interval, next(steps))
    covering = covering_buffer(
        draw_portfolios(intervals, market, ruleset, settings.calibrate, settings.seed),
        HIGH_COVERAGE,
    )
    flat_95 = budgets[CHOICE_COVERAGE][0]
    rows = hours.times.rows.row[hours.counted]
    report = {
        "data_sha256": _digest(learnt, hours, owners),
        "span": [format_time(time) for time in test_span],
        "calibration_span": [format_time(time) for time in settings.calibrate],
        "account_hours": int(hours.counted.sum()),
        "accounts": len(hours.times.start) - 1,
        "days": len(np.unique(hours.closes[rows] // DAY)),
        "uncovered": {
            "horizon_hours": FOLLOW_HOURS,
            "best_simple": best_simple,
            "budgets": [_budget(hours, policies, best_simple, c) for c in COVERAGES],
        },
        "calls": _calls(owners, on_owners, best_simple, flat_95),
        "procyclicality": {
            "portfolios": len(portfolios.loss),
            **procyclicality_table(portfolios, on_portfolios, flat_95),
        },
        "coverage": {
            "buffer": covering,
            "policies": {
                name: coverage_figures(portfolios, found.levels)
                for name, found in _match_portfolios(portfolios, on_portfolios, covering).items()
            },
        },
        "frontier": _frontier(hours, policies),
        "p_star": _p_star(owners, on_owners, ruleset, settings.seed),
    }
    if progress is not None:
        progress(1.0)
    return report


def _digest(*samples: AccountHours) -> str:
    """Digest of the account-hours of all samples."""
    return hashlib.sha256("".join(one.sha256() for one in samples).encode()).hexdigest()


def check_inputs(intervals: BookIntervals, settings: BacktestSettings) -> None:
    """Refuse spans that overlap and books with options.

    Raises
    ------
    DataError
        Either is given.
    """
    calibrate, test = settings.calibrate, settings.test
    if calibrate[1] > test[0]:
        raise DataError(
            f"calibration ends {format_time(calibrate[1])}, after the test begins "
            f"{format_time(test[0])}; the best simple estimate must be chosen before it is tested"
        )
    option = intervals.first_option()
    if option is not None:
        raise DataError(
            f"an account holds the option {option!r}; the backtest compares levels with the "
            "volatility of spot and perpetuals alone, under rules of any engine: leave accounts "
            "with options out, or use evaluate"
        )


def calibrate(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    forecaster: Forecaster,
    settings: BacktestSettings,
) -> tuple[PolicySources, str, AccountHours]:
    """What is taken from the calibration span: the limit of stress and the best simple estimate."""
    hours = _sample(market, intervals, ruleset, settings, settings.calibrate)
    ratio = volatility_ratio(hours.times, market.history, market.features)[hours.counted]
    sources = PolicySources(
        market.history,
        market.features,
        ruleset,
        forecaster,
        float(np.nanquantile(ratio, STRESS_QUANTILE)),
    )
    simple = sources.simple_policies(hours.times)
    hours = with_known_levels(hours, simple)
    return sources, choose_best_simple(hours, simple), hours


def procyclicality_table(
    portfolios: ReferencePortfolios, policies: Mapping[str, Policy], buffer: float
) -> dict[str, Any]:
    """How much each policy's margin moves at the average level of a flat share of maintenance
    margin."""
    return {
        "policies": {
            name: procyclicality_figures(portfolios, found.levels)
            for name, found in _match_portfolios(portfolios, policies, buffer).items()
        }
    }


def _sample(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    settings: BacktestSettings,
    span: Span,
) -> AccountHours:
    return sample_account_hours(
        intervals,
        market,
        ruleset,
        span,
        least_hours=settings.account_hours,
        seed=settings.seed,
    )


def _budget(
    hours: AccountHours, policies: Mapping[str, Policy], best_simple: str, coverage: float
) -> dict[str, Any]:
    """Every policy at the average level at which the flat one has this coverage."""
    _, budget = flat_budget(hours, coverage)
    matches = {name: match(hours, policy, budget) for name, policy in policies.items()}
    return {
        "flat_coverage": coverage,
        "average_add_on": budget,
        "policies": compare_at_budget(hours, matches, best_simple),
    }


def _match_portfolios(
    portfolios: ReferencePortfolios, policies: Mapping[str, Policy], buffer: float
) -> dict[str, Match]:
    """Every policy at the average level of a flat share of maintenance margin on portfolios."""
    flat = portfolios.share(buffer * portfolios.times.maintenance_margin)
    if not flat.mean() > 0.0:
        raise DataError(
            "maintenance margin alone covers the reference portfolios, so there is no level to "
            "compare policies at; give a longer calibration span"
        )
    budget = float(flat.mean())
    return {name: match(portfolios, policy, budget) for name, policy in policies.items()}


def _calls(
    owners: AccountHours, policies: Mapping[str, Policy], best_simple: str, buffer: float
) -> dict[str, Any]:
    """Calls under the main policies at the average level of a flat share of maintenance margin."""
    owners = with_known_levels(owners, policies)
    budget = buffer * float(owners.share(owners.times.maintenance_margin).mean())
    names = {MODEL: MODEL, PACED: PACED, FLAT: FLAT, BEST_SIMPLE: best_simple, ORACLE: ORACLE}
    figures: dict[str, Any] = {}
    for label, name in names.items():
        found = match(owners, policies[name], budget)
        figures[label] = {"matched": found.matched, **simulate_calls(owners, found.levels)}
    figures["none"] = {"matched": False, **simulate_calls(owners, np.zeros(len(owners)))}
    return {
        "account_hours": int(owners.counted.sum()),
        "accounts": len(owners.times.start) - 1,
        "average_add_on": budget,
        "policies": figures,
    }


def _frontier(hours: AccountHours, policies: Mapping[str, Policy]) -> dict[str, Any]:
    """Average level and uncovered loss of each policy at a range of budgets."""
    fall = hours.share(hours.fall)
    points: dict[str, Any] = {}
    for name, policy in policies.items():
        found = [match(hours, policy, flat_budget(hours, c)[1]) for c in FRONTIER_COVERAGES]
        pairs = {(float(m.share.mean()), float(uncovered(fall, m.share).mean())) for m in found}
        points[name] = [list(pair) for pair in sorted(pairs)]
    return points


def _p_star(
    owners: AccountHours, policies: Mapping[str, Policy], ruleset: RuleSet, seed: int
) -> dict[str, Any]:
    """The frontier of p*, at the factors of the grid that the model was searched around."""
    lowest, highest = policies[PACED].scalars
    factors = [factor for factor in FACTORS if lowest <= factor <= highest or factor == 1.0]
    table = frontier_table(sample_frontier(owners, policies, factors), seed)
    return {"p_star": dict(ruleset.add_on.p_star), **table}


def _steps(works: list[int], progress: Progress | None) -> Iterator[Progress | None]:
    """For each part of the work a progress that is mapped into the whole."""
    total, done = sum(works), 0
    for work in works:
        yield _Part(progress, done / total, work / total) if progress is not None else None
        done += work


@dataclass(frozen=True, slots=True)
class _Part:
    """Progress of one part of the work, as a share of the whole."""

    whole: Progress
    begin: float
    width: float

    def __call__(self, share: float) -> None:
        self.whole(self.begin + self.width * share)
