"""Replay of a book's life cycle: margin it at every close, move every account, settle shortfalls.

At each close all accounts are margined together and advanced; those in liquidation that are short
of margin are stepped by the rules and advanced again with what is left. Where the rule set has an
auction, it takes the place of the step: the replay's buyer takes the largest share at the price
asked at the close. What an account owes that is closed below zero is paid by the insurance fund,
then by the winners on the other side of its positions where the rule set has auto-deleverage; the
rest stays uncovered. Fees of liquidations go into the fund; without one they are the venue's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.book.requirement import Requirement, compute_requirement
from margin.floors.registry import active_floors, largest_floor
from margin.life_cycle.account_replay import AccountReplay
from margin.life_cycle.advance import advance
from margin.life_cycle.call_rules import CallRules
from margin.life_cycle.events import (
    deleverage_event,
    sale_event,
    shortfall_event,
    step_event,
    transition_events,
)
from margin.life_cycle.states import ENDED, NEVER, MarginStatus, State, States
from margin.liquidation.book_liquidation import book_step, close_at_mark, sell_at_auction
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.partial import Step
from margin.liquidation.shortfall import (
    ClosedPosition,
    Contribution,
    closed_positions,
    share_loss,
)
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory
from market.accounts.book import Book
from market.core.clock import SECOND

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDING = 1e-12
"""Share of a shortfall that counts as the rounding of its parts."""


@dataclass(slots=True)
class LifeCycleHistory:
    """What happened to the accounts, settlement currency.

    Attributes
    ----------
    events:
        In their order, see `margin.life_cycle.events`.
    states:
        At the end.
    bars, valuations, unknown:
        Closes walked over, accounts margined at them, and those of them without figures.
    problems:
        Why accounts had none, by account: the first reason.
    shortfall:
        What accounts that were closed owed: ``fund.paid + deleveraged + uncovered``, as far as
        default resources are in use.
    fund:
        None while no rule set in force has had one.
    deleveraged, uncovered:
        Borne by winners, and by nobody.
    discounts:
        What buyers at auction gained beside the mark.
    """

    states: States
    events: list[dict[str, Any]] = field(default_factory=list)
    bars: int = 0
    valuations: int = 0
    unknown: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    shortfall: float = 0.0
    fund: InsuranceFund | None = None
    deleveraged: float = 0.0
    uncovered: float = 0.0
    discounts: float = 0.0


def replay_life_cycle(
    accounts: AccountHistory,
    views: Iterable[MarketView],
    rules_at: Callable[[int], RuleSet],
    *,
    default_resources: bool = True,
    progress: Callable[[int], None] = lambda bars: None,
) -> LifeCycleHistory:
    """Advance all accounts of the files over the views, in the order of time.

    Where the call level is the total requirement, the add-on is the largest active rule floor: no
    model is asked. Deterministic: the same files, views and rules give the same events to the last
    bit, and more views give the same events and more.

    Parameters
    ----------
    accounts:
        The account files.
    views:
        The market at each close.
    rules_at:
        The rules of margin, life cycle and liquidation that are in force at a time, nanoseconds.
    default_resources:
        Use auction, fund and deleverage of the rule set; else shortfalls are summed alone.
    progress:
        Called after each view with the number that is done.
    """
    replay = _Replay(accounts, default_resources)
    for view in views:
        replay.advance_to(view, rules_at(view.as_of))
        progress(replay.history.bars)
    return replay.history


@dataclass(slots=True)
class _Liquidation:
    """What is known of one account's liquidation.

    Attributes
    ----------
    since, last:
        Times of its begin and of its newest step, nanoseconds.
    reserved:
        Proceeds of its sales at auction.
    closed:
        What its newest step took off.
    """

    since: int
    last: int = NEVER
    reserved: float = 0.0
    closed: tuple[ClosedPosition, ...] = ()


class _Replay:
    """The accounts and their history between two closes."""

    def __init__(self, accounts: AccountHistory, default_resources: bool) -> None:
        self._accounts = AccountReplay(accounts)
        self._default_resources = default_resources
        self._liquidations: dict[int, _Liquidation] = {}
        self.history = LifeCycleHistory(States.healthy(len(accounts.account_ids)))

    def advance_to(self, view: MarketView, ruleset: RuleSet) -> None:
        """Advance every account to the close of a view."""
        history, fund_rules = self.history, ruleset.liquidation_or_default.fund
        if history.fund is None and fund_rules is not UNSET and self._default_resources:
            history.fund = InsuranceFund.of_rules(fund_rules)
        at = _Close(self._accounts, view, ruleset)
        history.bars += 1
        history.valuations += len(at.book)
        history.unknown += len(at.requirement.problems)
        for i, problem in at.requirement.problems.items():
            history.problems.setdefault(at.book.account_ids[i], str(problem))
        self._advance(at)
        if self._liquidate(at):
            at = _Close(self._accounts, view, ruleset)
            self._advance(at)
        closed = np.isin(history.states.state[at.rows], ENDED)
        if not closed.any():
            return
        equity = at.requirement.equity[closed]
        history.shortfall += math.fsum(np.maximum(0.0, -equity).tolist())
        self._accounts.remove(at.rows[closed].tolist())
        if not self._default_resources:
            return
        ids = [at.book.account_ids[i] for i in np.flatnonzero(closed).tolist()]
        deleveraged = [
            self._cover(account_id, row, -owed, view, ruleset)
            for account_id, row, owed in zip(
                ids, at.rows[closed].tolist(), equity.tolist(), strict=True
            )
            if owed < 0.0
        ]
        if any(deleveraged):
            self._advance(_Close(self._accounts, view, ruleset))

    def _advance(self, at: _Close) -> None:
        if not len(at.rows):
            return
        status = MarginStatus(
            at.requirement.equity,
            at.requirement.maintenance_margin,
            _add_on(at.requirement, at.view, at.ruleset),
            at.position_counts(),
        )
        states = self.history.states
        after, transitions = advance(
            states.take(at.rows),
            status,
            at.view.as_of,
            CallRules.plain(at.ruleset.life_cycle_or_default),
        )
        self.history.states = states.put(at.rows, after)
        self.history.events += transition_events(
            transitions, at.book, status, at.requirement, at.ruleset
        )

    def _liquidate(self, at: _Close) -> bool:
        """Take a step with every account in liquidation that is short of margin."""
        states = self.history.states
        due = (states.state[at.rows] == State.LIQUIDATING) & (at.position_counts() > 0)
        short = np.flatnonzero(due & (at.requirement.headroom < 0.0)).tolist()
        for i in short:
            row = int(at.rows[i])
            since = int(states.since[row])
            liquidation = self._liquidations.get(row)
            if liquidation is None or liquidation.since != since:
                liquidation = self._liquidations[row] = _Liquidation(since)
            step = self._step(row, liquidation, at.view, at.ruleset)
            liquidation.last = at.view.as_of
            liquidation.closed = closed_positions(at.book, at.requirement, i, step.shares)
            if self.history.fund is not None:
                self.history.fund = self.history.fund.collect(step.fee)
        return bool(short)

    def _step(
        self, row: int, liquidation: _Liquidation, view: MarketView, ruleset: RuleSet
    ) -> Step:
        before, as_of = self._accounts.account(row), view.as_of
        elapsed = (as_of - liquidation.since) / SECOND
        first = liquidation.last == NEVER
        auction = ruleset.liquidation_or_default.auction
        if auction is UNSET or not self._default_resources:
            since_last = np.inf if first else (as_of - liquidation.last) / SECOND
            after, step = book_step(
                before, view, ruleset, elapsed_seconds=elapsed, since_last_seconds=since_last
            )
            event = step_event(before, step, as_of, ruleset)
        else:
            after, sale = sell_at_auction(
                before,
                view,
                ruleset,
                auction,
                elapsed_seconds=elapsed,
                reserved=liquidation.reserved,
                first=first,
            )
            step = sale.step
            liquidation.reserved += sale.proceeds
            self.history.discounts += sale.discount
            event = sale_event(before, sale, as_of, ruleset)
        self._accounts.replace(row, after)
        self.history.events.append(event)
        return step

    def _cover(
        self, account_id: str, row: int, shortfall: float, view: MarketView, ruleset: RuleSet
    ) -> bool:
        """Let fund and winners pay what a closed account owes; True where winners did."""
        history, rules = self.history, ruleset.liquidation_or_default
        paid = 0.0
        if history.fund is not None and rules.fund is not UNSET:
            paid = history.fund.payment(shortfall, rules.fund)
            history.fund = history.fund.pay(paid)
        left, contributions, at = shortfall - paid, list[Contribution](), None
        liquidation = self._liquidations.get(row)
        closed = liquidation.closed if liquidation and liquidation.last == view.as_of else ()
        if left > 0.0 and closed and rules.deleverage is not UNSET:
            at = _Close(self._accounts, view, ruleset)
            eligible = history.states.state[at.rows] != State.LIQUIDATING
            contributions = share_loss(
                left, closed, at.book, at.requirement, eligible, rules.deleverage.ranking
            )
        deleveraged = math.fsum(part.loss for part in contributions)
        uncovered = left - deleveraged
        if uncovered <= _ROUNDING * shortfall:
            uncovered = 0.0
        history.deleveraged += deleveraged
        history.uncovered += uncovered
        amounts = {
            "shortfall": shortfall,
            "fund_paid": paid,
            "deleveraged": deleveraged,
            "uncovered": uncovered,
            "fund_balance": 0.0 if history.fund is None else history.fund.balance,
        }
        history.events.append(shortfall_event(account_id, amounts, view.as_of, ruleset))
        if at is not None:
            self._deleverage(contributions, at, account_id)
        return bool(contributions)

    def _deleverage(self, contributions: list[Contribution], at: _Close, bankrupt: str) -> None:
        """Close the winners' positions at what their contributions say."""
        winners: dict[int, list[Contribution]] = defaultdict(list)
        for part in contributions:
            winners[part.account].append(part)
            self.history.events.append(
                deleverage_event(part, at.book, bankrupt, at.view.as_of, at.ruleset)
            )
        for i, parts in winners.items():
            row = int(at.rows[i])
            account = self._accounts.account(row)
            closed = {part.instrument: part.share for part in parts}
            shares = np.array([closed.get(leg.instrument, 0.0) for leg in account.positions])
            loss = math.fsum(part.loss for part in parts)
            self._accounts.replace(row, close_at_mark(account, at.view, at.ruleset, shares, loss))


class _Close:
    """The book at one close, its requirement, and each account's index in the files."""

    def __init__(self, accounts: AccountReplay, view: MarketView, ruleset: RuleSet) -> None:
        self.view, self.ruleset = view, ruleset
        self.book: Book
        self.rows: Ints
        self.book, self.rows = accounts.at(view)
        self.requirement = compute_requirement(self.book, view, ruleset)

    def position_counts(self) -> Ints:
        """How many positions each account holds, shape (N,)."""
        counts: Ints = np.diff(self.book.leg_start)
        return counts


def _add_on(requirement: Requirement, view: MarketView, ruleset: RuleSet) -> Floats:
    if ruleset.life_cycle_or_default.call_level == "maintenance":
        return np.zeros(len(requirement))
    return largest_floor(active_floors(requirement, view, ruleset.floors), requirement)
