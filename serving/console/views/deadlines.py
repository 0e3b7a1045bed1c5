"""Deadlines of calls in words, and what open calls add up to by them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from decisions.errors import NoMarketError
from enforcement.calls.call import Call
from margin.life_cycle.states import State
from market.core.clock import DAY, HOUR, MINUTE, parse_time
from serving.service import Service

WINDOWS = (1, 8, 24)
"""Hours within which calls are counted as due."""


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """How long a deadline is away.

    Attributes
    ----------
    words:
        Like ``2 h 5 min left`` or ``overdue by 3 h 10 min``; empty without a deadline.
    kind:
        ``bad`` where it is over, ``warn`` within the first of `WINDOWS`, else empty.
    """

    words: str
    kind: str


def time_left(deadline: str | None, now: int) -> TimeLeft:
    """A deadline, an ISO time, as seen at `now`, nanoseconds."""
    if deadline is None:
        return TimeLeft("", "")
    left = parse_time(deadline) - now
    if left < 0:
        return TimeLeft(f"overdue by {duration(-left)}", "bad")
    return TimeLeft(f"{duration(left)} left", "warn" if left <= WINDOWS[0] * HOUR else "")


def call_time_left(call: Call, now: int) -> TimeLeft:
    """The deadline of a call: none of one that has ended, and none while a dispute stops it.

    Of a call whose deadline was missed it is the end of the grace.
    """
    if call.clock_stopped:
        return TimeLeft("stopped by the dispute", "")
    left = time_left(call.deadline if call.is_open else None, now)
    if call.state == State.REDUCE_ONLY.label and left.words:
        return TimeLeft(f"deadline missed, grace: {left.words}", "bad")
    return left


def book_time(service: Service) -> int:
    """The time by which deadlines pass, nanoseconds: as in the evaluation of the live book.

    Raises
    ------
    NoMarketError
        The market's clock has no time yet.
    """
    if service.settings.clock == "wall":
        return time.time_ns()
    newest = service.live.state.newest_known
    if newest is None:
        raise NoMarketError("the market has no bar yet; post bars, then load the page again")
    return newest


def duration(nanoseconds: int) -> str:
    """A time span by its two largest units."""
    days, rest = divmod(nanoseconds, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes = rest // MINUTE
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else "less than a minute"


def open_call_figures(calls: Collection[Call], now: int) -> dict[str, Any]:
    """Open calls by state and by deadline; amounts in the settlement currency.

    A call without a deadline, and one whose deadline a dispute stops, is counted by state alone.

    Parameters
    ----------
    calls:
        The open calls.
    now:
        The time of deadlines, nanoseconds.

    Returns
    -------
    dict
        ``count`` and ``outstanding`` of all; ``states``: rows of state, count and outstanding;
        ``due``: rows of a name, count, outstanding and the kind of `TimeLeft`, each window with
        the calls of shorter ones.
    """
    amounts: defaultdict[str, list[float]] = defaultdict(list)
    for call in calls:
        amounts[call.state].append(call.outstanding)
    timed = [
        (parse_time(call.deadline) - now, call.outstanding)
        for call in calls
        if call.deadline is not None and not call.clock_stopped
    ]
    overdue = [amount for left, amount in timed if left < 0]
    due = [("overdue", len(overdue), sum(overdue), "bad" if overdue else "")]
    for hours in WINDOWS:
        within = [amount for left, amount in timed if 0 <= left <= hours * HOUR]
        kind = "warn" if within and hours == WINDOWS[0] else ""
        due.append((f"due within {hours} h", len(within), sum(within), kind))
    return {
        "count": len(calls),
        "outstanding": sum(call.outstanding for call in calls),
        "states": [
            (state, len(found), sum(found))
            for state, found in sorted(amounts.items(), key=lambda item: -len(item[1]))
        ],
        "due": due,
    }
