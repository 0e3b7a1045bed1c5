"""Walk a book over a price path: margin it at every close and move every account's life cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.book.requirement import Requirement, compute_requirement
from margin.floors import active_floors, largest_floor
from margin.life_cycle.advance import advance
from margin.life_cycle.states import NEVER, Figures, Reason, State, States, Transitions
from margin.liquidation.book_step import book_step
from margin.liquidation.partial import Step
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.account_files import AccountHistory
from market.accounts.book import Book
from market.core.clock import SECOND, format_time
from pipelines.data.account_replay import HeldAccounts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Told = Callable[[float], None]


@dataclass(slots=True)
class Walk:
    """What happened on the way.

    Attributes
    ----------
    events:
        Transitions and liquidation steps in their order, as plain values; figures are unrounded.
    states:
        At the end.
    bars, margined, unknown:
        Closes walked over, accounts margined at them, and those of them without figures.
    problems:
        Why accounts had none, by account: the first reason.
    shortfall:
        What accounts that were closed owed, settlement currency.
    """

    states: States
    events: list[dict[str, Any]] = field(default_factory=list)
    bars: int = 0
    margined: int = 0
    unknown: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    shortfall: float = 0.0


def walk(
    history: AccountHistory,
    views: Iterable[MarketView],
    rules_at: Callable[[int], RuleSet],
    told: Told = lambda share: None,
    count: int = 1,
) -> Walk:
    """Advance all accounts of the files over the views, in the order of time.

    At each close accounts are margined together; those in liquidation are stepped by the rules
    and judged again with what is left. Where the call level is the total requirement, the add-on
    is the largest active rule floor: no model is asked. Deterministic: the same files, views and
    rules give the same events to the last bit.

    Parameters
    ----------
    history:
        The account files.
    views:
        The market at each close.
    rules_at:
        The rules of margin, life cycle and liquidation that are in force at a time, nanoseconds.
    told, count:
        Progress: told of the share of `count` views that are done.
    """
    held = HeldAccounts(history)
    done = Walk(States.healthy(len(history.account_ids)))
    liquidations = _Liquidations()
    for view in views:
        ruleset = rules_at(view.as_of)
        book, rows = held.at(view)
        requirement = compute_requirement(book, view, ruleset)
        done.bars += 1
        done.margined += len(book)
        done.unknown += len(requirement.problems)
        for i, problem in requirement.problems.items():
            done.problems.setdefault(book.account_ids[i], str(problem))
        _judge(done, book, rows, requirement, view, ruleset)
        stepped = _liquidate(done, held, book, rows, requirement, view, ruleset, liquidations)
        if stepped:
            book, rows = held.at(view)
            requirement = compute_requirement(book, view, ruleset)
            _judge(done, book, rows, requirement, view, ruleset)
        closed = rows[done.states.state[rows] == State.CLOSED]
        if len(closed):
            equity = requirement.equity[done.states.state[rows] == State.CLOSED]
            done.shortfall += math.fsum(np.maximum(0.0, -equity).tolist())
            held.remove(closed.tolist())
        told(done.bars / count)
    return done


@dataclass(slots=True)
class _Liquidations:
    """When each account's liquidation last took a step, by its index."""

    last: dict[int, int] = field(default_factory=dict)


def _judge(
    done: Walk,
    book: Book,
    rows: Ints,
    requirement: Requirement,
    view: MarketView,
    ruleset: RuleSet,
) -> None:
    if not len(rows):
        return
    figures = Figures(
        requirement.equity,
        requirement.maintenance_margin,
        _add_on(requirement, view, ruleset),
        _positions(book),
    )
    rules = ruleset.life_cycle_or_default
    after, changed = advance(done.states.take(rows), figures, view.as_of, rules)
    done.states = done.states.put(rows, after)
    done.events += _plain(changed, book, figures, requirement, ruleset)


def _add_on(requirement: Requirement, view: MarketView, ruleset: RuleSet) -> Floats:
    if ruleset.life_cycle_or_default.call_level == "maintenance":
        return np.zeros(len(requirement))
    return largest_floor(active_floors(requirement, view, ruleset.floors), requirement)


def _positions(book: Book) -> Ints:
    """How many positions each account holds, shape (N,)."""
    counts: Ints = np.diff(book.leg_start)
    return counts


def _liquidate(
    done: Walk,
    held: HeldAccounts,
    book: Book,
    rows: Ints,
    requirement: Requirement,
    view: MarketView,
    ruleset: RuleSet,
    liquidations: _Liquidations,
) -> bool:
    """Take a step with every account in liquidation that is short of margin."""
    due = (done.states.state[rows] == State.LIQUIDATING) & (_positions(book) > 0)
    short = np.flatnonzero(due & (requirement.headroom < 0.0))
    for i in short.tolist():
        row = int(rows[i])
        before = held.account(row)
        since = int(done.states.since[row])
        last = liquidations.last.get(row, NEVER)
        after, step = book_step(
            before,
            view,
            ruleset,
            elapsed_seconds=(view.as_of - since) / SECOND,
            since_last_seconds=np.inf if last < since else (view.as_of - last) / SECOND,
        )
        held.replace(row, after)
        liquidations.last[row] = view.as_of
        instruments = [position.instrument for position in before.positions]
        done.events.append(_step_event(before.account_id, instruments, step, view.as_of, ruleset))
    return bool(len(short))


def _plain(
    changed: Transitions,
    book: Book,
    figures: Figures,
    requirement: Requirement,
    ruleset: RuleSet,
) -> list[dict[str, Any]]:
    events = []
    for i, before, after, reason, deadline in zip(
        changed.account.tolist(),
        changed.before.tolist(),
        changed.after.tolist(),
        changed.reason.tolist(),
        changed.deadline.tolist(),
        strict=True,
    ):
        equity, margin = float(figures.equity[i]), float(figures.maintenance[i])
        add_on = float(figures.add_on[i])
        level = margin + add_on
        events.append(
            {
                "event": "transition",
                "account_id": book.account_ids[i],
                "as_of": format_time(changed.as_of),
                "time": changed.as_of,
                "from": State(before).label,
                "to": State(after).label,
                "reason": Reason(reason).code,
                "deadline": None if deadline == NEVER else format_time(deadline),
                "figures": {
                    "equity": equity,
                    "maintenance_margin": margin,
                    "add_on": add_on,
                    "call_level": level,
                    "headroom": equity - margin,
                    "gross_notional": float(requirement.gross_notional[i]),
                },
                "ruleset_sha256": ruleset.sha256,
            }
        )
    return events


def _step_event(
    account_id: str, instruments: list[str], step: Step, as_of: int, ruleset: RuleSet
) -> dict[str, Any]:
    return {
        "event": "liquidation",
        "account_id": account_id,
        "as_of": format_time(as_of),
        "time": as_of,
        "closed": [
            {"instrument": name, "share": share}
            for name, share in zip(instruments, step.shares, strict=True)
            if share > 0.0
        ],
        "notional": step.notional,
        "fee": step.fee,
        "headroom_before": step.net_before,
        "headroom_after": step.net_after,
        "restored": step.restored,
        "backstop": step.backstop,
        "ruleset_sha256": ruleset.sha256,
    }
