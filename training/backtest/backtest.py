"""The add-on against reference policies at equal average margin: ``backtest --json``.

Each policy has one scalar. It is solved on the calibration span, so that the average margin is
the budget there, and frozen. On the test span the policy is simulated at scalars around it, and its
figures are read off that frontier at exactly the test span's budget: counts are therefore not
whole numbers. ``matched`` says whether the budget lies within the frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from features.state.market_state import MarketFeatures
from margin.rules.ruleset import RuleSet
from market.bars.history import MarketHistory
from market.core.clock import format_time
from market.core.errors import DataError
from models.forecaster import Forecaster
from training.backtest.add_on_policy import add_on_policy
from training.backtest.budget_matching import (
    AverageMargin,
    frontier_scalars,
    solve_scalar,
    trace_frontier,
)
from training.backtest.margin_paths import MarginPaths, sample_margin_paths
from training.backtest.policies import (
    FLAT_BUFFER,
    STRESS_QUANTILE,
    Policy,
    reference_policies,
    volatility_ratio,
)
from training.backtest.policy_simulation import average_margin
from training.backtest.reference_portfolios import (
    ReferencePortfolios,
    coverage_figures,
    covering_buffer,
    draw_portfolios,
    procyclicality_figures,
)
from training.labels.account_panel import AccountPanel
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

MODEL = "margincast"
HIGH_COVERAGE = 0.99
MAX_ACCOUNT_HOURS = 60_000

Span = tuple[int, int]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class BacktestSettings:
    """Spans and sample of a backtest.

    Attributes
    ----------
    calibrate, test:
        First and last nanosecond of the decisions and of the 24 hours that follow them. The
        calibration span ends no later than the test span begins.
    seed, max_account_hours:
        Seed and size of the sample of each span, chosen by a hash of the account.
    """

    calibrate: Span
    test: Span
    seed: int
    max_account_hours: int = MAX_ACCOUNT_HOURS


def backtest(
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    forecaster: Forecaster,
    settings: BacktestSettings,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare the add-on with the reference policies: the object of ``backtest --json``.

    Sums (breaches, shortfall, calls) run over the sampled accounts; ``account_hours`` counts the
    at-risk account-hours that averages go over, the same for every policy.

    Parameters
    ----------
    market:
        Marks and market features.
    intervals:
        Books and when accounts hold them, without options; each is simulated on its own.
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
    calibrate, test, seed = settings.calibrate, settings.test, settings.seed
    if calibrate[1] > test[0]:
        raise DataError(
            f"calibration ends {format_time(calibrate[1])}, after the test begins "
            f"{format_time(test[0])}; scalars must be fixed before they are tested"
        )
    option = intervals.first_option()
    if option is not None:
        raise DataError(
            f"an account holds the option {option!r}; the backtest takes the cost of closing a "
            "book and the loss of its reference portfolios from spot and perpetuals alone, under "
            "rules of any engine: leave accounts with options out, or use evaluate"
        )
    before, after = (
        sample_margin_paths(
            intervals,
            market,
            ruleset,
            span,
            max_account_hours=settings.max_account_hours,
            seed=seed,
        )
        for span in (calibrate, test)
    )
    history = market.history
    ratio = volatility_ratio(before.times, history, market.features)[before.at_risk]
    sources = _PolicySources(
        history, market.features, ruleset, forecaster, float(np.quantile(ratio, STRESS_QUANTILE))
    )
    portfolios = draw_portfolios(intervals, market, ruleset, test, seed)
    works = [len(before.times), len(after.times), len(portfolios.times)]
    steps = _steps(works, progress)
    calibration = _Calibration(before, sources.policies(before.times, next(steps)))
    test_span = _TestSpan(
        after,
        sources.policies(after.times, next(steps)),
        portfolios,
        sources.policies(portfolios.times, next(steps)),
    )

    covering = covering_buffer(
        draw_portfolios(intervals, market, ruleset, calibrate, seed), HIGH_COVERAGE
    )
    covered = calibration.scalars(covering)
    main = _table(calibration, test_span, FLAT_BUFFER, calibration.scalars(FLAT_BUFFER), covered)
    high = _table(calibration, test_span, covering, covered, covered)
    if progress is not None:
        progress(1.0)
    return {
        "span": _format_span(test),
        "calibration_span": _format_span(calibrate),
        **main,
        "matched_on": "average_margin",
        "lives": len(after),
        "account_hours": int(after.at_risk.sum()),
        "reference_portfolios": {"count": len(portfolios.loss), "days": portfolios.loss.shape[1]},
        "at_99_coverage": {"buffer": covering, **high},
    }


@dataclass(frozen=True, slots=True)
class _PolicySources:
    """The inputs of every policy."""

    history: MarketHistory
    market: MarketFeatures
    ruleset: RuleSet
    forecaster: Forecaster
    stress_ratio: float

    def policies(self, times: AccountPanel, progress: Progress | None) -> dict[str, Policy]:
        """All policies at these account-times, by name."""
        add_on = add_on_policy(
            times, self.history, self.market, self.ruleset, self.forecaster, progress
        )
        others = reference_policies(times, self.history, self.market, self.stress_ratio)
        return {MODEL: add_on, **others}


class _Calibration:
    """The calibration span, on which scalars are solved."""

    def __init__(self, paths: MarginPaths, policies: dict[str, Policy]) -> None:
        self.paths = paths
        self.averages = {name: AverageMargin(paths, policy) for name, policy in policies.items()}

    def budget(self, buffer: float) -> float:
        """Average margin of the flat buffer."""
        return _flat_average(self.paths, buffer)

    def scalars(self, buffer: float) -> dict[str, float]:
        """The scalar of each policy at the flat buffer's budget."""
        budget = self.budget(buffer)
        return {
            name: solve_scalar(average.policy, average, budget)
            for name, average in self.averages.items()
        }


@dataclass(frozen=True, slots=True)
class _TestSpan:
    """Accounts and portfolios of the test span, with the policies at each."""

    paths: MarginPaths
    policies: dict[str, Policy]
    portfolios: ReferencePortfolios
    portfolio_policies: dict[str, Policy]


def _table(
    calibration: _Calibration,
    test_span: _TestSpan,
    buffer: float,
    matched: dict[str, float],
    covered: dict[str, float],
) -> dict[str, Any]:
    """Every policy at the budget of one flat buffer, and the frontiers it is read from."""
    budget = _flat_average(test_span.paths, buffer)
    figures: dict[str, Any] = {}
    points: dict[str, Any] = {}
    for name, policy in test_span.policies.items():
        scalars = frontier_scalars(
            calibration.averages[name], calibration.budget(buffer), matched[name]
        )
        frontier = trace_frontier(test_span.paths, policy, scalars)
        outcome, inside = frontier.at(budget)
        on_portfolios = test_span.portfolio_policies[name].levels
        figures[name] = {
            "matched": inside and policy.scalable,
            **asdict(outcome),
            **coverage_figures(test_span.portfolios, on_portfolios(covered[name])),
            **procyclicality_figures(test_span.portfolios, on_portfolios(matched[name])),
            "scalar": matched[name] if policy.scalable else None,
        }
        points[name] = frontier.points()
    return {"budget": budget, "policies": figures, "frontier": points}


def _flat_average(paths: MarginPaths, buffer: float) -> float:
    return average_margin(paths, buffer * paths.times.maintenance_margin)


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


def _format_span(span: Span) -> list[str]:
    return [format_time(time) for time in span]
