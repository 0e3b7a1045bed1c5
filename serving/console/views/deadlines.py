"""Deadlines of calls in words, and what open calls add up to by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from enforcement.calls.call import Call
from market.core.clock import DAY, HOUR, MINUTE, parse_time

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

    Advice and liquidations without a call are counted by state and are not due.

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
    counts = Counter(call.state for call in calls)
    amounts: Counter[str] = Counter()
    for call in calls:
        amounts[call.state] += call.outstanding  # type: ignore[assignment]  # sums, not counts
    timed = [
        (parse_time(call.deadline) - now, call.outstanding)
        for call in calls
        if call.deadline is not None
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
        "states": [(state, n, float(amounts[state])) for state, n in counts.most_common()],
        "due": due,
    }
