"""Partial liquidation: how much of which position is closed.

What is closed is closed at the mark: an account swaps the value of a position for cash, pays the
fee and is freed of the margin. `margin.liquidation.auction` sells at a discount instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from margin.liquidation.crossing import first_true
from margin.liquidation.moved import notional, reduced
from margin.liquidation.prices import margins_of
from margin.liquidation_rules import LiquidationRules, PartialRules
from margin.margins import Margins
from margin.portfolio import Portfolio
from margin.portfolios import flatten
from margin.ruleset import RuleSet

Floats = npt.NDArray[np.float64]

_PATH = np.linspace(0.0, 1.0, 65)


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
    """

    shares: tuple[float, ...]
    notional: float
    fee: float
    net_before: float
    net_after: float
    requirement_after: float
    restored: bool
    backstop: bool = False


def smallest_share(surplus: Callable[[Floats], Floats]) -> float:
    """Smallest share in [0, 1] at which a surplus is 0 or more; 1 where none is.

    Parameters
    ----------
    surplus:
        Of shares of any number: the same shape.
    """
    found = first_true(lambda shares: surplus(shares) >= 0.0, _PATH)
    return 1.0 if found is None else found[1]


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


def liquidation_step(
    portfolio: Portfolio,
    ruleset: RuleSet,
    *,
    elapsed_seconds: float = 0.0,
    since_last_seconds: float = np.inf,
) -> Step:
    """The next step of closing an account, under ``[liquidation]`` of its rule set.

    Under ``buffer`` the shares are the smallest for which
    ``net >= buffer * requirement``, both after the step, with
    ``requirement = mark-to-market - net``; where not even closing everything does, everything is
    closed. An account that meets its margin gets a step of nothing.

    Parameters
    ----------
    portfolio:
        Checked; not changed.
    ruleset:
        Rules of margin and of liquidation.
    elapsed_seconds:
        Since the liquidation began, for rules that go slowly.
    since_last_seconds:
        Since the last step, for rules with a cooldown.

    References
    ----------
    Hyperliquid, "Liquidations" (20% of positions above 100,000 USDC); Drift v2, "Liquidation
    Engine"; dYdX, "Liquidations".
    """
    account = _Account(portfolio, ruleset)
    rules = ruleset.liquidations
    if account.net >= 0.0:
        return account.step(np.zeros(len(portfolio.positions)))
    if _below_backstop(account, rules):
        return account.step(np.ones(len(portfolio.positions)), backstop=True)
    parts = rules.partial
    if parts.method == "whole":
        return account.step(np.ones(len(portfolio.positions)))
    if parts.method == "share":
        return account.step(_large_and_small(account, parts, since_last_seconds))
    return account.step(_to_buffer(account, parts, elapsed_seconds))


def _below_backstop(account: _Account, rules: LiquidationRules) -> bool:
    requirement = account.mark_to_market - account.net
    return account.mark_to_market < rules.backstop_share * requirement


def _large_and_small(account: _Account, rules: PartialRules, since_last: float) -> Floats:
    if since_last < rules.cooldown_seconds:
        return np.ones(len(account.notionals))
    return np.where(account.notionals > rules.share_above, rules.share, 1.0)


def _to_buffer(account: _Account, rules: PartialRules, elapsed: float) -> Floats:
    allowed = allowed_shortage(rules, -account.net, elapsed)
    # What may stay open of today's shortage, beyond the buffer: nothing once all may be freed.
    target = (1.0 - allowed) * account.net

    def surplus(shares: Floats) -> Floats:
        net, requirement = account.after(shares)
        wanted: Floats = net - rules.buffer * requirement if allowed == 1.0 else net - target
        return wanted

    ones = np.ones(len(account.notionals))
    if rules.order == "pro_rata":
        return smallest_share(lambda shares: surplus(np.outer(shares, ones))) * ones
    closed = np.zeros(len(account.notionals))
    for position in account.largest_first():
        closed[position] = smallest_share(partial(_one_more, surplus, closed.copy(), position))
        if surplus(closed[None, :])[0] >= 0.0:
            break
    return closed


def _one_more(
    surplus: Callable[[Floats], Floats], closed: Floats, position: int, parts: Floats
) -> Floats:
    """The surplus after these parts of one more position."""
    rows = np.tile(closed, (len(parts), 1))
    rows[:, position] = parts
    return surplus(rows)


class _Account:
    """A portfolio and what closing shares of its positions leaves."""

    def __init__(self, portfolio: Portfolio, ruleset: RuleSet) -> None:
        self.portfolio, self.ruleset = portfolio, ruleset
        self.notionals = np.array(
            [notional(portfolio, position) for position in portfolio.positions]
        )
        self._margins = margins_of([portfolio], ruleset)
        self.net = float(self._margins.maintenance_net[0])
        self.mark_to_market = float(self._margins.mark_to_market[0])

    def after(self, shares: Floats) -> tuple[Floats, Floats]:
        """Net maintenance margin and requirement after rows of shares, shape (K, P)."""
        margins: Margins = margins_of(
            [reduced(self.portfolio, row.tolist()) for row in shares], self.ruleset
        )
        fee = self.ruleset.liquidations.partial.fee_rate * (shares @ self.notionals)
        # The engine's own mark-to-market says what closing at the mark turns into cash.
        requirement = margins.mark_to_market - margins.maintenance_net
        net: Floats = self.mark_to_market - fee - requirement
        return net, requirement

    def largest_first(self) -> list[int]:
        """Positions by the maintenance margin that their legs take, falling; then by name."""
        legs = flatten([self.portfolio], self.ruleset.collateral)
        taken = self._margins.leg_maintenance[legs.position_leg]
        names = [position.name for position in self.portfolio.positions]
        return sorted(range(len(names)), key=lambda i: (-taken[i], names[i], i))

    def step(self, shares: Floats, *, backstop: bool = False) -> Step:
        """The step that closes these shares."""
        rules = self.ruleset.liquidations.partial
        net, requirement = (float(figure[0]) for figure in self.after(shares[None, :]))
        closed = float(shares @ self.notionals)
        return Step(
            shares=tuple(shares.tolist()),
            notional=closed,
            fee=rules.fee_rate * closed,
            net_before=self.net,
            net_after=net,
            requirement_after=requirement,
            restored=net >= rules.buffer * requirement,
            backstop=backstop,
        )
