"""Coverage: the margin that a volatility demands of a book, which several floors measure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from margin.book.account_requirement import Requirement
from margin.floors.term import FloorTerm
from margin.rules.floors import CorrelationRules, CoverageRules, FloorRules, table_of
from margin.valuation.view import MarketView
from market.core.arrays import Floats


@dataclass(frozen=True, slots=True)
class Coverage:
    """Margin demanded by one volatility, settlement currency.

    Attributes
    ----------
    leg_alone:
        Part of each position in `alone`, negative where it hedges its own underlying, (L,).
    alone:
        Sum over the underlyings, each on its own, shape (N,).
    demand:
        With the offsets that are allowed, at most `alone`, shape (N,).
    """

    leg_alone: Floats
    alone: Floats
    demand: Floats

    def terms(self) -> tuple[FloorTerm, FloorTerm]:
        """The demand in parts."""
        return (
            FloorTerm(
                "underlying_alone",
                "margin of each underlying on its own, by position",
                "position",
                self.leg_alone,
            ),
            FloorTerm(
                "offset",
                "allowed offset between underlyings",
                "account",
                self.demand - self.alone,
            ),
        )


def coverage(
    requirement: Requirement, volatility: Floats, view: MarketView, rules: FloorRules
) -> Coverage:
    r"""Margin that covers a book at the declared confidence over the declared period.

    With the net notional n_u of an underlying u, its hourly volatility v_u and the multiple
    ``z = quantile(confidence) * sqrt(24 * period_days)``::

        m_u    = |n_u| * min(1, z * v_u)
        alone  = sum(m_u)
        joint  = sqrt(sum(m_u * m_w * c_uw))
        demand = alone - cap * (alone - joint)

    where c_uw is the correlation of the two positions' losses, see `loss_correlations`: 1 where
    it is not known, so that nothing is offset on hearsay. While ``floors.correlation`` is on, cap
    is its `offset_cap` and c moves to 1 as fast and slow correlation part; else cap is 1.

    Parameters
    ----------
    requirement:
        Its resolved positions.
    volatility:
        Hourly, known everywhere, shape (S,).
    view:
        Slow and fast correlation.
    rules:
        ``rules.coverage`` and ``rules.correlation``.

    Returns
    -------
    Finite and never negative, at most the gross notional; NaN for an account with a position
    that cannot be valued.

    Raises
    ------
    RuleSetError
        The rule set has no ``[floors.coverage]``.

    References
    ----------
    J.P. Morgan/Reuters (1996), "RiskMetrics Technical Document"; Commission Delegated
    Regulation (EU) No 153/2013, Articles 24, 26 and 27.
    """
    slow, trust, cap = loss_correlations(view, rules)
    leg_alone, alone, demand = _cover(
        requirement.leg_start,
        requirement.leg_symbol,
        requirement.leg_notional,
        margin_share(volatility, table_of(rules.coverage, "coverage").multiple),
        slow,
        trust,
        cap,
    )
    return Coverage(leg_alone, alone, demand)


@dataclass(frozen=True, slots=True)
class JointMargin:
    """``max(maintenance margin, demand(volatility))`` of N accounts, on which other floors build.

    Attributes
    ----------
    coverage:
        The demand and its parts.
    margin:
        Settlement currency, shape (N,); NaN for an account without figures.
    """

    coverage: Coverage
    margin: Floats

    def terms(self) -> tuple[FloorTerm, ...]:
        """The margin in parts."""
        return (
            *self.coverage.terms(),
            FloorTerm(
                "rules_ask_more",
                "the rules ask for more than the volatility",
                "account",
                self.margin - self.coverage.demand,
            ),
        )


def current_margin(requirement: Requirement, view: MarketView, rules: FloorRules) -> JointMargin:
    """The joint margin at the newest volatility."""
    cover = table_of(rules.coverage, "coverage")
    return joint_margin(current_volatility(view, cover), requirement, view, rules)


def joint_margin(
    volatility: Floats, requirement: Requirement, view: MarketView, rules: FloorRules
) -> JointMargin:
    """The joint margin at an hourly volatility, known everywhere, shape (S,)."""
    demand = coverage(requirement, volatility, view, rules)
    return JointMargin(demand, np.maximum(requirement.maintenance_margin, demand.demand))


def margin_share(volatility: Floats, multiple: float) -> Floats:
    """``min(1, multiple * volatility)``, shape (S,), without overflow.

    0 without volatility, also at an infinite multiple, and at a multiple of 0.
    """
    if multiple == 0.0:
        return np.zeros_like(volatility)
    if np.isinf(multiple):
        return np.where(volatility > 0.0, 1.0, 0.0)
    return np.minimum(1.0, multiple * np.minimum(volatility, 1.0 / multiple))


def loss_correlations(view: MarketView, rules: FloorRules) -> tuple[Floats, Floats, float]:
    """Slow correlation, how far it is trusted, and the cap of the offset.

    The losses of two positions of signs s and t correlate by ``c = 1 - trust * (1 - s*t*rho)``:
    fully trusted it is ``s*t*rho``, not trusted at all it is 1. Trust is 0 where the slow
    correlation is not known. While ``floors.correlation`` is on it is
    ``max(0, 1 - |fast - slow| / full_divergence)``, and 0 where the fast one is not known; else 1.
    A `full_divergence` of 0 trusts where the two are equal, and nowhere else.

    Returns
    -------
    Correlation within [−1, 1], shape (S, S), 0 where not known; trust, shape (S, S); the cap.
    """
    slow = np.clip(view.correlation, -1.0, 1.0)
    table = rules.correlation
    cap = 1.0
    if isinstance(table, CorrelationRules) and table.enabled:
        fast = (
            np.full_like(slow, np.nan) if view.fast_correlation is None else view.fast_correlation
        )
        apart = np.abs(np.clip(fast, -1.0, 1.0) - slow)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            trust = np.maximum(0.0, 1.0 - apart / table.full_divergence)
        trust = np.where(apart == 0.0, 1.0, trust)
        cap = table.offset_cap
    else:
        trust = np.ones_like(slow)
    unknown = np.isnan(slow) | np.isnan(trust)
    return np.where(unknown, 0.0, slow), np.where(unknown, 0.0, trust), cap


def current_volatility(view: MarketView, rules: CoverageRules) -> Floats:
    """The newest hourly volatility, shape (S,); where it is not known `unknown_volatility`, or the
    long volatility if that is higher."""
    return view.volatility_or(rules.unknown_volatility)


def lookback_volatility(
    known: Floats | None, view: MarketView, rules: CoverageRules, stand_in: float
) -> Floats:
    """A volatility from the long history, shape (S,).

    `stand_in` where it is not known, and at least that while the history is shorter than
    `lookback_days` or of unknown length: calm months alone do not vouch for the long run.
    """
    blank = np.full(len(view.symbols), np.nan)
    values = blank if known is None else known
    hours = blank if view.history_hours is None else view.history_hours
    long_enough = hours >= 24.0 * rules.lookback_days
    usable = np.where(np.isfinite(values) & (values >= 0.0), values, stand_in)
    return np.where(long_enough, usable, np.maximum(usable, stand_in))


@njit(cache=True, error_model="numpy")
def _cover(start, symbol, notional, share, slow, trust, cap):  # type: ignore[no-untyped-def]
    n = start.shape[0] - 1
    leg_alone = np.zeros(notional.shape[0])
    alone, demand = np.zeros(n), np.zeros(n)
    most = 0
    for i in range(n):
        most = max(most, start[i + 1] - start[i])
    under, net = np.zeros(most, dtype=np.int64), np.zeros(most)
    for i in range(n):
        count = net_by_underlying(start[i], start[i + 1], symbol, notional, under, net)
        if count < 0:
            alone[i] = demand[i] = np.nan
            continue
        for leg in range(start[i], start[i + 1]):
            for p in range(count):
                if under[p] == symbol[leg] and net[p] != 0.0:
                    sign = 1.0 if net[p] > 0.0 else -1.0
                    leg_alone[leg] = sign * notional[leg] * share[under[p]]
        for p in range(count):
            alone[i] += abs(net[p]) * share[under[p]]
        if alone[i] == 0.0:
            continue
        # Shares of the whole keep squares of large and small books within range.
        joint = 0.0
        for p in range(count):
            w = net[p] * share[under[p]] / alone[i]
            joint += w * w
            for q in range(p):
                x = net[q] * share[under[q]] / alone[i]
                both = abs(w * x)
                rho = slow[under[p], under[q]] if w * x > 0.0 else -slow[under[p], under[q]]
                joint += 2.0 * both * (1.0 - trust[under[p], under[q]] * (1.0 - rho))
        left = math.sqrt(min(1.0, max(0.0, joint)))
        demand[i] = alone[i] * (1.0 - cap * (1.0 - left))
    return leg_alone, alone, demand


@njit(cache=True, error_model="numpy")
def net_by_underlying(begin, end, symbol, notional, under, net):  # type: ignore[no-untyped-def]
    """Net the legs of one account by underlying into `under` and `net`, in order of appearance.

    Returns how many underlyings there are; −1 where a leg cannot be valued.
    """
    count = 0
    for leg in range(begin, end):
        if symbol[leg] < 0:
            return -1
        place = 0
        while place < count and under[place] != symbol[leg]:
            place += 1
        if place == count:
            under[place] = symbol[leg]
            net[place] = 0.0
            count += 1
        net[place] += notional[leg]
    return count
