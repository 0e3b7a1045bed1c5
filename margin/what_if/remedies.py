"""What brings an account to a headroom: a deposit, or cuts, the cheapest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from margin.addon import deposit_to_meet
from margin.portfolio import Portfolio
from margin.ruleset import RuleSet
from margin.what_if.outcome import Outcome, closed, outcome, outcomes
from margin.what_if.trades import Change, coin_settled

_STEPS = 6
_WIDTH = 32
"""Shares margined at once; six rounds of 32 narrow a share to 1e-9."""


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
    """What would bring an account to a headroom.

    Attributes
    ----------
    headroom, target:
        Net maintenance margin now, and wanted.
    deposit:
        Cash that suffices alone, rounded up to the cent; 0 where nothing is missing.
    single:
        Cuts that suffice alone, the cheapest first.
    plan:
        Cuts in the order to make them: the cheapest single one where there is one, else those
        that free most for their cost, one after the other.
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
    to margin), one at which it is reached. Without a single cut that suffices, the position that
    frees most headroom for its cost is closed whole, and the rest sought again.

    Parameters
    ----------
    portfolio:
        As it stands; left so.
    ruleset:
        The rules.
    target:
        Net maintenance margin wanted, settlement currency.
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
        held = range(len(portfolio.positions))
        whole = self._after(portfolio, [(i, 1.0) for i in held])
        enough = [i for i in held if whole[i].maintenance_net_margin >= self._target]
        shares = self._smallest_shares(portfolio, enough)
        reached = self._after(portfolio, list(zip(enough, shares, strict=True)))
        cuts = [
            self._cut(portfolio, i, share, after.maintenance_net_margin)
            for i, share, after in zip(enough, shares, reached, strict=True)
        ]
        return tuple(sorted(cuts, key=lambda cut: (cut.cost, cut.instrument)))

    def plan(self, now: Outcome) -> tuple[tuple[Cut, ...], float]:
        """Cuts one after the other, and the headroom they reach."""
        cuts: list[Cut] = []
        while now.portfolio.positions and now.maintenance_net_margin < self._target:
            portfolio = now.portfolio
            single = self.single_cuts(portfolio)
            if single:
                return (*cuts, single[0]), single[0].headroom
            held = range(len(portfolio.positions))
            whole = self._after(portfolio, [(i, 1.0) for i in held])
            freed = [one.maintenance_net_margin - now.maintenance_net_margin for one in whole]
            if max(freed) <= 0.0:
                break
            # Free of charge and of use goes before all; else most headroom for the cost.
            best = max(held, key=lambda i: self._worth(portfolio, i, freed[i]))
            cuts.append(self._cut(portfolio, best, 1.0, whole[best].maintenance_net_margin))
            now = whole[best]
        return tuple(cuts), now.maintenance_net_margin

    def _smallest_shares(self, portfolio: Portfolio, chosen: Sequence[int]) -> list[float]:
        low, high = np.zeros(len(chosen)), np.ones(len(chosen))
        for _ in range(_STEPS):
            grid = np.linspace(low, high, _WIDTH + 2, axis=-1)
            asked = [
                (i, share)
                for i, row in zip(chosen, grid[:, 1:-1].tolist(), strict=True)
                for share in row
            ]
            nets = [one.maintenance_net_margin for one in self._after(portfolio, asked)]
            enough = np.array(nets).reshape(len(chosen), _WIDTH) >= self._target
            at = np.where(enough.any(axis=1), enough.argmax(axis=1) + 1, _WIDTH + 1)
            rows = np.arange(len(chosen))
            low, high = grid[rows, at - 1], grid[rows, at]
        return [float(share) for share in high]

    def _after(self, portfolio: Portfolio, cuts: Sequence[tuple[int, float]]) -> list[Outcome]:
        """The portfolio after each of some cuts alone, their cost paid."""
        changes = [
            Change(-self._cost(portfolio, i, share), (closed(portfolio.positions[i], share),))
            for i, share in cuts
        ]
        return list(outcomes(portfolio, changes, self._ruleset))

    def _cut(self, portfolio: Portfolio, i: int, share: float, headroom: float) -> Cut:
        held = portfolio.positions[i]
        cost = self._cost(portfolio, i, share)
        return Cut(held.name, -share * held.quantity, share, cost, headroom)

    def _cost(self, portfolio: Portfolio, i: int, share: float) -> float:
        held = portfolio.positions[i]
        rate = self._costs.get(held.name, self._default)
        price = 1.0 if self._in_coin else portfolio.underlyings[held.underlying].spot
        return rate * share * abs(held.quantity) * price

    def _worth(self, portfolio: Portfolio, i: int, freed: float) -> float:
        cost = self._cost(portfolio, i, 1.0)
        if freed <= 0.0:
            return -math.inf
        return math.inf if cost == 0.0 else freed / cost


def _missing(target: float, headroom: float) -> float:
    return float(deposit_to_meet(np.array([target]), np.array([headroom]))[0])
