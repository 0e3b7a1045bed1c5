"""Partial liquidation: how much of which position is closed.

An account swaps the value of a position at the mark for cash, pays the fee and what the close
moves the price (`margin.liquidation.price_impact`, where the rules count it), and is freed of the
margin. `margin.liquidation.auction` sells at a discount instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Portfolio
from margin.engines.margins import Margins
from margin.liquidation.crossing import first_nonnegative
from margin.liquidation.price_impact import ImpactCurves, closing_impact, counts_impact
from margin.liquidation.prices import margins_of
from margin.liquidation.shocked_portfolio import notional_of, reduce_positions
from margin.rules.liquidation import LiquidationRules, PartialRules
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]

_PATH = np.linspace(0.0, 1.0, 65)

_WHOLE_FROM = 2.0**52
"""From here on floats are whole."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a liquidation, settlement currency.

    Attributes
    ----------
    shares:
        Closed of each position, 0 to 1, in the order of the portfolio.
    notional:
        What is closed, at the mark.
    fee:
        Paid on it.
    net_before, net_after:
        Net maintenance margin.
    requirement_after:
        What is left of the maintenance requirement.
    restored:
        The margin and the buffer are met after the step.
    backstop:
        The account is taken over whole, for its equity is below the venue's backstop.
    impact:
        What the closes cost beside the mark; 0 where the rules do not count it, or the account is
        taken over.
    """

    shares: tuple[float, ...]
    notional: float
    fee: float
    net_before: float
    net_after: float
    requirement_after: float
    restored: bool
    backstop: bool = False
    impact: float = 0.0


def smallest_share(surplus: Callable[[Floats], Floats]) -> float:
    """Find the smallest share in [0, 1] at which a surplus is 0 or more; 1 where none is.

    Parameters
    ----------
    surplus:
        From shares, shape (K,), to their surplus of the same shape.
    """
    bounds = first_nonnegative(surplus, _PATH)
    return 1.0 if bounds is None else bounds[1]


def allowed_shortage(rules: PartialRules, shortage: float, elapsed_seconds: float) -> float:
    """Share of a shortage that may be freed so long after the liquidation began.

    ``min(1, start + elapsed / ramp)``, and 1 for a small shortage.

    References
    ----------
    Drift v2, "Liquidation Engine" (partial liquidation over slots).
    """
    if shortage < rules.small_shortage or rules.ramp_seconds == 0.0:
        return 1.0
    return min(1.0, rules.ramp_start + max(0.0, elapsed_seconds) / rules.ramp_seconds)


class Closable(Protocol):
    """An account with P positions, and the effect of closing shares of them.

    Attributes
    ----------
    net:
        Net maintenance margin, ``value - requirement``.
    value, requirement:
        Equity or mark-to-market, and the requirement that is subtracted from it.
    notionals:
        Absolute, shape (P,).
    """

    net: float
    value: float
    requirement: float
    notionals: Floats

    def requirement_after(self, shares: Floats) -> Floats:
        """The requirement after rows of shares, shape (K, P): shape (K,)."""

    def impact(self, shares: Floats) -> Floats:
        """What closing rows of shares, shape (K, P), costs beside the mark: shape (K,)."""

    def largest_first(self) -> list[int]:
        """Positions by their maintenance margin, falling; then by name."""


def liquidation_step(
    portfolio: Portfolio,
    ruleset: RuleSet,
    *,
    elapsed_seconds: float = 0.0,
    since_last_seconds: float = np.inf,
) -> Step:
    """The next step of closing a portfolio, see `next_step`; `portfolio` is not changed."""
    return next_step(
        _PortfolioAccount(portfolio, ruleset),
        ruleset.liquidation_or_default,
        elapsed_seconds=elapsed_seconds,
        since_last_seconds=since_last_seconds,
    )


def next_step(
    account: Closable,
    rules: LiquidationRules,
    *,
    elapsed_seconds: float = 0.0,
    since_last_seconds: float = np.inf,
) -> Step:
    """The next step of closing an account, under ``[liquidation]`` of its rule set.

    Under ``buffer`` the shares are the smallest for which
    ``net >= buffer * requirement``, both after the step, its fee and its price impact; where no
    share does, everything is closed. An account that meets its margin gets a step that closes
    nothing.

    Parameters
    ----------
    account:
        The account.
    rules:
        ``[liquidation]``.
    elapsed_seconds:
        Since the liquidation began, for rules that go slowly.
    since_last_seconds:
        Since the last step, for rules with a cooldown.

    References
    ----------
    Hyperliquid, "Liquidations" (20% of positions above 100,000 USDC); Drift v2, "Liquidation
    Engine"; dYdX, "Liquidations"; Paradex, "Liquidations" (a multiple of 20% of all positions).
    """
    none, whole = np.zeros(len(account.notionals)), np.ones(len(account.notionals))
    if account.net >= 0.0:
        return _step(account, rules.partial, none)
    backstop = rules.backstop_share
    if backstop > 0.0 and account.value < backstop * account.requirement:
        return _step(account, rules.partial, whole, backstop=True)
    method = rules.partial.method
    if method == "whole":
        return _step(account, rules.partial, whole)
    if method == "share":
        return _step(account, rules.partial, _large_and_small(account, rules, since_last_seconds))
    return _step(account, rules.partial, _to_buffer(account, rules.partial, elapsed_seconds))


def _step(
    account: Closable, rules: PartialRules, shares: Floats, *, backstop: bool = False
) -> Step:
    rows = shares[None, :]
    # Who takes an account over takes its positions; nothing is traded.
    impact = np.zeros(1) if backstop else account.impact(rows)
    net, requirement = _after(account, rules, rows, impact)
    return Step(
        shares=tuple(shares.tolist()),
        notional=float(_closed(account, rows)[0]),
        fee=float(_fee(account, rules, rows, requirement)[0]),
        net_before=account.net,
        net_after=float(net[0]),
        requirement_after=float(requirement[0]),
        restored=bool(net[0] >= rules.buffer * requirement[0]),
        backstop=backstop,
        impact=float(impact[0]),
    )


def _after(
    account: Closable, rules: PartialRules, shares: Floats, impact: Floats
) -> tuple[Floats, Floats]:
    """Net maintenance margin and requirement after rows of shares."""
    requirement = account.requirement_after(shares)
    fee = _fee(account, rules, shares, requirement)
    net: Floats = account.value - fee - impact - requirement
    return net, requirement


def _fee(account: Closable, rules: PartialRules, shares: Floats, requirement: Floats) -> Floats:
    """What rows of shares cost, given the requirement after them."""
    freed = account.requirement - requirement
    return rules.fee_rate * _closed(account, shares) + rules.margin_fee_rate * freed


def _closed(account: Closable, shares: Floats) -> Floats:
    """Notional closed by rows of shares, summed in one order however many rows there are."""
    closed = np.zeros(len(shares))
    for position, size in enumerate(account.notionals.tolist()):
        closed += shares[:, position] * size
    return closed


def _large_and_small(account: Closable, rules: LiquidationRules, since_last: float) -> Floats:
    parts = rules.partial
    if since_last < parts.cooldown_seconds:
        return np.ones(len(account.notionals))
    return np.where(account.notionals > parts.share_above, parts.share, 1.0)


def _to_buffer(account: Closable, rules: PartialRules, elapsed: float) -> Floats:
    allowed = allowed_shortage(rules, -account.net, elapsed)
    # The part of today's shortage that may stay open, beyond the buffer: 0 once all may be freed.
    target = (1.0 - allowed) * account.net

    def surplus(shares: Floats) -> Floats:
        net, requirement = _after(account, rules, shares, account.impact(shares))
        excess: Floats = net - rules.buffer * requirement if allowed == 1.0 else net - target
        return excess

    ones = np.ones(len(account.notionals))
    if rules.order == "pro_rata":
        share = smallest_share(lambda shares: surplus(np.outer(shares, ones)))
        return _round_up(share, rules.multiple_of) * ones
    closed = np.zeros(len(account.notionals))
    for position in account.largest_first():
        share = smallest_share(partial(_surplus_with, surplus, closed.copy(), position))
        closed[position] = _round_up(share, rules.multiple_of)
        if surplus(closed[None, :])[0] >= 0.0:
            break
    return closed


def _round_up(share: float, multiple: float) -> float:
    steps = share / multiple if multiple > 0.0 else math.inf
    if not steps < _WHOLE_FROM:  # finer than float64 tells shares apart
        return share
    return min(1.0, math.ceil(round(steps, 9)) * multiple)


def _surplus_with(
    surplus: Callable[[Floats], Floats], closed: Floats, position: int, parts: Floats
) -> Floats:
    """The surplus once these parts of one further position are closed too."""
    rows = np.tile(closed, (len(parts), 1))
    rows[:, position] = parts
    return surplus(rows)


class _PortfolioAccount:
    """A portfolio; its requirement is subtracted from its mark-to-market."""

    def __init__(self, portfolio: Portfolio, ruleset: RuleSet) -> None:
        self._portfolio, self._ruleset = portfolio, ruleset
        self._margins = margins_of([portfolio], ruleset)
        self.net = float(self._margins.maintenance_net[0])
        self.value = float(self._margins.mark_to_market[0])
        self.requirement = float(_requirement(self._margins)[0])
        self.notionals = np.array(
            [notional_of(portfolio, position) for position in portfolio.positions]
        )
        self._curves = None
        if counts_impact(ruleset.liquidation_or_default):
            names = [position.underlying for position in portfolio.positions]
            self._curves = ImpactCurves.of_names(names, ruleset)

    def impact(self, shares: Floats) -> Floats:
        return closing_impact(self._curves, shares, self.notionals)

    def requirement_after(self, shares: Floats) -> Floats:
        margins: Margins = margins_of(
            [reduce_positions(self._portfolio, row.tolist()) for row in shares], self._ruleset
        )
        # Closing at the mark turns value into cash, which the requirement does not see.
        return _requirement(margins)

    def largest_first(self) -> list[int]:
        legs = flatten([self._portfolio], self._ruleset.collateral)
        margin = self._margins.leg_maintenance[legs.position_leg]
        names = [position.name for position in self._portfolio.positions]
        return sorted(range(len(names)), key=lambda i: (-margin[i], names[i], i))


def _requirement(margins: Margins) -> Floats:
    """Maintenance requirement of each portfolio: margin and collateral haircuts."""
    requirement: Floats = margins.maintenance_margin + margins.collateral_haircut
    return requirement
