"""The policies that are compared: each gives a level on top of maintenance margin and has one
scalar, by which its average level is made equal to a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.optimize import brentq

from features.market import inputs as bar_inputs
from features.registry import MARKET_COLUMNS
from features.state.market_state import MarketFeatures
from margin.rules.ruleset import RuleSet
from market.bars.history import MarketHistory
from models.forecaster import Forecaster
from training.backtest.model_levels import REACH, Progress, choose_factors, level_curves
from training.backtest.paced_add_on import AddOnWalk, RuleBounds, rule_bounds
from training.fitting.oracle import realised_squares
from training.labels.account_panel import AccountPanel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MODEL = "margincast"
PACED = "margincast_with_hysteresis"
UNCAPPED = "margincast_with_hysteresis_uncapped"
FLAT = "flat"
EMIR = "emir_buffer"
ORACLE = "volatility_oracle"
FORECAST = "sigma_forecast"
FORECAST_COLUMN = "volatility_forecast_24h"

SIMPLE_ESTIMATORS = (
    "ewma_volatility_12h",
    "ewma_volatility_72h",
    "realised_volatility_24h",
    "realised_volatility_168h",
    "yang_zhang_volatility_24h",
    "long_volatility",
)
"""Volatility estimates that compete for the best simple policy."""

DRAWN_DOWN = 0.5
"""Share of the buffer that `emir_buffer` keeps in stress."""

STRESS_QUANTILE = 0.95
"""Quantile of the volatility ratio above which `emir_buffer` is drawn down."""

ORACLE_HOURS = 24
_TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True)
class Policy:
    """A margin policy at N account-times.

    Attributes
    ----------
    levels:
        Level on top of maintenance margin for a scalar; settlement currency, shape (N,).
    scalars:
        The two ends of the scalar's range. Between them the average level moves one way, up to
        pacing. Equal where the level is proportional to the scalar.
    """

    levels: Callable[[float], Floats]
    scalars: tuple[float, float] = (1.0, 1.0)

    def solve(self, average: Callable[[Floats], float], budget: float) -> float:
        """Scalar at which the average level is the budget; knows nothing of what came after.

        The end of the range where the budget lies beyond it.

        Parameters
        ----------
        average:
            Average of levels over the account-times that count.
        budget:
            Above 0.

        References
        ----------
        Brent (1973), "Algorithms for Minimization without Derivatives", ch. 4.
        """
        low, high = self.scalars
        if low == high:
            unit = average(self.levels(1.0))
            return budget / unit if unit > 0.0 else 0.0
        known: dict[float, float] = {}

        def excess(log_scalar: float) -> float:
            if log_scalar not in known:
                known[log_scalar] = average(self.levels(math.exp(log_scalar))) / budget - 1.0
            return known[log_scalar]

        ends = sorted((math.log(low), math.log(high)), key=excess)
        if excess(ends[0]) >= 0.0:
            return math.exp(ends[0])
        if excess(ends[1]) <= 0.0:
            return math.exp(ends[1])
        brentq(excess, ends[0], ends[1], xtol=_TOLERANCE, rtol=_TOLERANCE)
        return math.exp(min(known, key=lambda at: abs(known[at])))


@dataclass(frozen=True, slots=True)
class PolicySources:
    """The inputs of every policy.

    Attributes
    ----------
    history, market:
        Marks and market features on the same grid.
    ruleset, forecaster:
        Rules and model.
    stress_ratio:
        Volatility ratio above which `emir_buffer` is drawn down, from calibration months.
    factors:
        Factors on p* at which the model is searched.
    """

    history: MarketHistory
    market: MarketFeatures
    ruleset: RuleSet
    forecaster: Forecaster
    stress_ratio: float
    factors: Floats = field(default_factory=lambda: np.ones(1))

    def searching(
        self,
        times: AccountPanel,
        counted: Ints,
        budgets: tuple[float, float],
        reach: float = REACH,
    ) -> PolicySources:
        """These with the factors at which the model reaches around two average levels.

        See `training.backtest.model_levels.choose_factors`.
        """
        targets = self.ruleset.add_on.targets
        inputs = self.market, self.forecaster, targets
        factors = choose_factors(times, counted, *inputs, budgets, reach)
        return replace(self, factors=factors)

    def of_model(self, forecaster: Forecaster) -> PolicySources:
        """These with another model."""
        return replace(self, forecaster=forecaster)

    def raw_policy(self, times: AccountPanel, progress: Progress | None = None) -> Policy:
        """The raw level G of the model, p* multiplied by the scalar."""
        targets = self.ruleset.add_on.targets
        curves = level_curves(times, self.market, self.forecaster, targets, self.factors, progress)
        return Policy(curves.at, (float(curves.factors[0]), float(curves.factors[-1])))

    def policies(
        self, times: AccountPanel, book: Ints, progress: Progress | None = None
    ) -> dict[str, Policy]:
        """Every policy at these account-times, by name.

        `simple_policies` and, with p* multiplied by the scalar: ``margincast``, the raw level G of
        the model; ``margincast_with_hysteresis``, the whole add-on from hour to hour;
        ``margincast_with_hysteresis_uncapped``, the same without the cap, which binds where the
        average level comes near it. `book` says which book each account-time holds, shape (N,).
        """
        raw = self.raw_policy(times, progress)
        bounds = rule_bounds(times, self.history, self.market, self.ruleset)
        uncapped = replace(bounds, cap=np.full(len(times), np.finfo(np.float64).max))
        return {
            MODEL: raw,
            PACED: self._paced_policy(times, book, bounds, raw),
            UNCAPPED: self._paced_policy(times, book, uncapped, raw),
            **self.simple_policies(times),
        }

    def _paced_policy(
        self, times: AccountPanel, book: Ints, bounds: RuleBounds, raw: Policy
    ) -> Policy:
        closes, rules = self.history.bars.closes, self.ruleset.add_on
        return paced_policy(AddOnWalk(times, book, closes, bounds, rules), raw)

    def simple_policies(self, times: AccountPanel) -> dict[str, Policy]:
        """The policies without a model, by name, each k times a measure of the book.

        ``flat`` maintenance margin; ``sigma_X`` the book's volatility under estimate X and the
        correlations known at t, ``sigma_forecast`` under the volatility forecast of 24 h;
        ``emir_buffer`` maintenance margin, halved while the book's volatility ratio is above
        `stress_ratio`; ``volatility_oracle`` the book volatility that is realised within the next
        24 h: a limit, not a policy. NaN in warm-up.

        References
        ----------
        Regulation (EU) 153/2013, Article 28; Murphy, Vasios, Vause (2014), Bank of England FSP 29.
        """
        margin = times.maintenance_margin
        ratio = volatility_ratio(times, self.history, self.market)
        buffer = np.where(ratio > self.stress_ratio, DRAWN_DOWN, 1.0)
        measures = {FLAT: margin}
        for estimate in SIMPLE_ESTIMATORS:
            measures[f"sigma_{estimate}"] = self._book_volatility(
                times, self.market.column(estimate)
            )
        if FORECAST_COLUMN in MARKET_COLUMNS:
            forecast = self.market.column(FORECAST_COLUMN)
            measures[FORECAST] = self._book_volatility(times, forecast)
        measures[EMIR] = margin * buffer
        measures[ORACLE] = self._book_volatility(times, self._realised_volatility())
        return {name: _proportional(measure) for name, measure in measures.items()}

    def _realised_volatility(self) -> Floats:
        """Volatility of each symbol over the `ORACLE_HOURS` after each row, NaN at the end."""
        squares = realised_squares(self.history)
        steps = ORACLE_HOURS * self.history.bars.interval.per_hour
        ahead = np.full(squares.shape, np.nan)
        ahead[:-steps] = squares[steps:] - squares[:-steps]
        return np.asarray(np.sqrt(ahead))

    def _book_volatility(self, times: AccountPanel, volatility: Floats) -> Floats:
        rows, out = times.rows, np.empty(len(times))
        legs = rows.leg_start, rows.leg_symbol, rows.leg_notional
        _book_volatility(rows.row, *legs, self.market.correlation, volatility, out)
        return out


def paced_policy(walk: AddOnWalk, raw: Policy) -> Policy:
    """The whole add-on of a raw policy: its levels walked through floor, cap and pacing."""
    return Policy(lambda scalar: walk.levels(raw.levels(scalar)), raw.scalars)


def is_simple(name: str) -> bool:
    """Whether a policy competes for the best simple one."""
    return name.removeprefix("sigma_") in SIMPLE_ESTIMATORS


def volatility_ratio(times: AccountPanel, history: MarketHistory, market: MarketFeatures) -> Floats:
    """Last day's over long-run volatility of each book, shape (N,).

    ``sum |x| sigma_24h / sigma_long / sum |x|`` over the positions x, with sigma_24h the
    realised volatility of 24 hours. NaN in warm-up; 1 for a price that never moved and for a book
    without notional.

    References
    ----------
    Andersen, Bollerslev, Diebold and Labys, Econometrica 71 (2003).
    """
    recent, long_run = market.column("realised_volatility_24h"), long_run_volatility(history)
    ratio = np.divide(recent, long_run, out=np.ones_like(recent), where=long_run != 0.0)
    rows = times.rows
    owner = np.repeat(np.arange(len(times)), np.diff(rows.leg_start))
    size = np.abs(rows.leg_notional)
    at_legs = np.where(size > 0.0, ratio[rows.row[owner], rows.leg_symbol] * size, 0.0)
    weighted = np.bincount(owner, at_legs, len(times))
    gross = times.gross_notional()
    return np.divide(weighted, gross, out=np.ones(len(times)), where=gross > 0.0)


def long_run_volatility(history: MarketHistory) -> Floats:
    """Root of the mean squared hourly log return of all bars known so far, shape (T, S).

    ``sqrt(n * mean r^2)`` with n bars an hour. NaN before the first return.
    """
    bars = history.bars
    columns = bar_inputs.new_inputs(bars)
    bar_inputs.build(bars, bar_inputs.new_state(len(bars.symbols)), columns)
    squares = columns[bar_inputs.LOG_RETURN].T ** 2
    known = np.cumsum(~np.isnan(squares), axis=0).astype(np.float64)
    known[known == 0.0] = np.nan
    total = np.cumsum(np.nan_to_num(squares), axis=0)
    return np.asarray(np.sqrt(bars.interval.per_hour * total / known))


def _proportional(measure: Floats) -> Policy:
    return Policy(lambda scalar: scalar * measure)


@njit(cache=True, error_model="numpy")
def _book_volatility(  # type: ignore[no-untyped-def]
    row, leg_start, leg_symbol, leg_notional, correlation, volatility, out
):
    """``sqrt(sum_ij x_i x_j rho_ij v_i v_j)`` over the positions x, known at each row."""
    for n in range(len(row)):
        t = row[n]
        variance = 0.0
        for a in range(leg_start[n], leg_start[n + 1]):
            i = leg_symbol[a]
            if leg_notional[a] == 0.0:
                continue
            x = leg_notional[a] * volatility[t, i]
            variance += x * x
            for b in range(leg_start[n], a):
                j = leg_symbol[b]
                if leg_notional[b] != 0.0:
                    y = leg_notional[b] * volatility[t, j]
                    variance += 2.0 * x * y * correlation[t, i, j]
        # A hedged book can round to just below zero; NaN must stay NaN.
        out[n] = 0.0 if variance <= 0.0 else np.sqrt(variance)
