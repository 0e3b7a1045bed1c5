"""Remedies that bring an account to a headroom: a deposit, or cuts, the cheapest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from margin.add_on.bounds import deposit_to_meet
from margin.book.case_portfolio import Portfolio
from margin.rules.ruleset import RuleSet
from margin.what_if.outcome import Outcome, closing_trade, outcome, outcomes
from margin.what_if.trades import Change, coin_settled
from market.core.arrays import Floats

_STEPS = 6
_WIDTH = 32
"""Shares margined at once; six rounds of 32 narrow a share to 1e-9."""
_SHARES = tuple((k + 1) / 8 for k in range(8))
"""Where each position is tried first: less may help where all of it would undo a hedge."""
_MOST_CUTS = 10


@dataclass(frozen=True, slots=True)
class Cut:
    """Closing a part of one position.

    Attributes
    ----------
    instrument, quantity:
        What to trade: the opposite of the position.
    share:
        Of the position, above 0 and at most 1.
    cost:
        Of the trade, settlement currency.
    headroom:
        Afterwards, with the cuts before it done too.
    """

    instrument: str
    quantity: float
    share: float
    cost: float
    headroom: float


@dataclass(frozen=True, slots=True)
class Remedies:
    """Ways to bring an account to a headroom.

    Attributes
    ----------
    headroom, target:
        Net maintenance margin now, and to be reached.
    deposit:
        Cash that suffices alone, rounded up to the cent; 0 where nothing is missing.
    single:
        Cuts that suffice alone, the cheapest first.
    plan:
        Cuts in the order to make them, the cheapest way that was found; a share is that of what
        the position still is.
    deposit_after_plan:
        What is still missing after the plan, rounded up to the cent; 0 where it suffices.
    """

    headroom: float
    target: float
    deposit: float
    single: tuple[Cut, ...]
    plan: tuple[Cut, ...]
    deposit_after_plan: float


def find_remedies(
    portfolio: Portfolio,
    ruleset: RuleSet,
    target: float = 0.0,
    costs: Mapping[str, float] | None = None,
    default_cost: float = 0.0005,
) -> Remedies:
    """The deposit, the single cuts and the plan of cuts that reach a headroom.

    A cut trades at the mark and pays ``cost * |quantity| * spot``, in coin ``cost * |quantity|``,
    cost being that of its instrument. Of a single cut the smallest share is sought that suffices;
    where the headroom does not rise all along the way (a rule that takes the better of two ways
    to margin), one at which it is reached. The plan is the cheaper of two ways: the cut that frees
    most headroom for its cost, again and again until a single one suffices; or the same share of
    every position, which keeps hedges together.

    Parameters
    ----------
    portfolio:
        As it stands; left so.
    ruleset:
        The rules.
    target:
        Net maintenance margin to reach, settlement currency.
    costs, default_cost:
        Share of the underlying's price paid for a unit traded, by instrument.

    Raises
    ------
    CaseError, InstrumentError
        The portfolio cannot be valued.
    """
    rates = dict(costs or {})
    now = outcome(portfolio, ruleset)
    missing = _missing(target, now.maintenance_net_margin)
    if missing == 0.0:
        return Remedies(now.maintenance_net_margin, target, 0.0, (), (), 0.0)
    search = _Search(ruleset, target, rates, default_cost)
    single = search.single_cuts(now.portfolio)
    plan, reached = search.plan(now)
    return Remedies(
        now.maintenance_net_margin, target, missing, single, plan, _missing(target, reached)
    )


class _Search:
    def __init__(
        self, ruleset: RuleSet, target: float, costs: Mapping[str, float], default_cost: float
    ) -> None:
        self._ruleset, self._target = ruleset, target
        self._costs, self._default = costs, default_cost
        self._in_coin = coin_settled(ruleset)

    def single_cuts(self, portfolio: Portfolio) -> tuple[Cut, ...]:
        """Cuts that reach the target alone, the cheapest first."""
        return self._sufficient(portfolio, self._nets(portfolio))

    def plan(self, now: Outcome) -> tuple[tuple[Cut, ...], float]:
        """Cuts one after the other, and the headroom they reach."""
        ways = [self._one_by_one(now), self._pro_rata(now)]
        enough = [way for way in ways if _reached(way, now) >= self._target]
        if enough:
            best = min(enough, key=lambda way: sum(cut.cost for cut in way))
        else:
            best = max(ways, key=lambda way: _reached(way, now))
        return tuple(best), _reached(best, now)

    def _one_by_one(self, now: Outcome) -> list[Cut]:
        """The cut that frees most for its cost, again and again, until a single one suffices."""
        cuts: list[Cut] = []
        while now.portfolio.positions and len(cuts) < _MOST_CUTS:
            portfolio = now.portfolio
            nets = self._nets(portfolio)
            single = self._sufficient(portfolio, nets)
            if single:
                return [*cuts, single[0]]
            freed = nets.max(axis=1) - now.maintenance_net_margin
            if freed.max() <= 0.0:
                break
            at = [_SHARES[k] for k in nets.argmax(axis=1).tolist()]
            # Free of charge and of use goes before all; else most headroom for the cost.
            worth = [self._worth(portfolio, i, at[i], gain) for i, gain in enumerate(freed)]
            best = int(np.argmax(worth))
            (now,) = self._after(portfolio, [(best, at[best])])
            cuts.append(self._cut(portfolio, best, at[best], now.maintenance_net_margin))
        return cuts

    def _pro_rata(self, now: Outcome) -> list[Cut]:
        """The smallest share of every position that suffices, or all of them: it keeps hedges."""
        portfolio = now.portfolio
        everything = range(len(portfolio.positions))
        low, high = 0.0, 1.0
        for _ in range(_STEPS):
            grid = np.linspace(low, high, _WIDTH + 2).tolist()
            changes = [self._change(portfolio, everything, share) for share in grid[1:-1]]
            tried = outcomes(portfolio, changes, self._ruleset)
            enough = [one.maintenance_net_margin >= self._target for one in tried]
            at = enough.index(True) + 1 if any(enough) else _WIDTH + 1
            low, high = grid[at - 1], grid[at]
        upto = [self._change(portfolio, everything[: i + 1], high) for i in everything]
        return [
            self._cut(portfolio, i, high, one.maintenance_net_margin)
            for i, one in enumerate(outcomes(portfolio, upto, self._ruleset))
        ]

    def _nets(self, portfolio: Portfolio) -> Floats:
        """Headroom after cutting each share of `_SHARES` of each position alone, shape (P, S)."""
        count = len(portfolio.positions)
        cuts = [(i, share) for i in range(count) for share in _SHARES]
        nets = [after.maintenance_net_margin for after in self._after(portfolio, cuts)]
        return np.array(nets).reshape(count, len(_SHARES))

    def _sufficient(self, portfolio: Portfolio, nets: Floats) -> tuple[Cut, ...]:
        enough = nets >= self._target
        chosen = np.flatnonzero(enough.any(axis=1)).tolist()
        first = enough.argmax(axis=1)[chosen]
        bounds = np.array([0.0, *_SHARES])
        shares = self._smallest_shares(portfolio, chosen, bounds[first], bounds[first + 1])
        reached = self._after(portfolio, list(zip(chosen, shares, strict=True)))
        cuts = [
            self._cut(portfolio, i, share, after.maintenance_net_margin)
            for i, share, after in zip(chosen, shares, reached, strict=True)
        ]
        return tuple(sorted(cuts, key=lambda cut: (cut.cost, cut.instrument)))

    def _smallest_shares(
        self, portfolio: Portfolio, chosen: Sequence[int], low: Floats, high: Floats
    ) -> list[float]:
        for _ in range(_STEPS):
            grid = np.linspace(low, high, _WIDTH + 2, axis=-1)
            cuts = [
                (i, share)
                for i, row in zip(chosen, grid[:, 1:-1].tolist(), strict=True)
                for share in row
            ]
            nets = [one.maintenance_net_margin for one in self._after(portfolio, cuts)]
            enough = np.array(nets).reshape(len(chosen), _WIDTH) >= self._target
            at = np.where(enough.any(axis=1), enough.argmax(axis=1) + 1, _WIDTH + 1)
            rows = np.arange(len(chosen))
            low, high = grid[rows, at - 1], grid[rows, at]
        return [float(share) for share in high]

    def _after(self, portfolio: Portfolio, cuts: Sequence[tuple[int, float]]) -> list[Outcome]:
        """The portfolio after each of some cuts alone, their cost paid."""
        changes = [self._change(portfolio, [i], share) for i, share in cuts]
        return list(outcomes(portfolio, changes, self._ruleset))

    def _change(self, portfolio: Portfolio, chosen: Sequence[int], share: float) -> Change:
        cost = sum(self._cost(portfolio, i, share) for i in chosen)
        return Change(-cost, tuple(closing_trade(portfolio.positions[i], share) for i in chosen))

    def _cut(self, portfolio: Portfolio, i: int, share: float, headroom: float) -> Cut:
        position = portfolio.positions[i]
        cost = self._cost(portfolio, i, share)
        return Cut(position.name, -share * position.quantity, share, cost, headroom)

    def _cost(self, portfolio: Portfolio, i: int, share: float) -> float:
        position = portfolio.positions[i]
        rate = self._costs.get(position.name, self._default)
        price = 1.0 if self._in_coin else portfolio.underlyings[position.underlying].spot
        return rate * share * abs(position.quantity) * price

    def _worth(self, portfolio: Portfolio, i: int, share: float, freed: float) -> float:
        cost = self._cost(portfolio, i, share)
        if freed <= 0.0:
            return -math.inf
        return math.inf if cost == 0.0 else freed / cost


def _reached(cuts: Sequence[Cut], now: Outcome) -> float:
    return cuts[-1].headroom if cuts else now.maintenance_net_margin


def _missing(target: float, headroom: float) -> float:
    return float(deposit_to_meet(np.array([target]), np.array([headroom]))[0])
