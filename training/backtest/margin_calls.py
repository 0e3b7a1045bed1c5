"""Calls of accounts from where they stand: what a policy asks for, hour by hour.

An account is followed with all that its owner did. What it pays on a call stays with it. Its life
ends at the first breach of maintenance margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from market.core.clock import HOUR
from training.backtest.account_hours import FOLLOW_HOURS, AccountHours

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_HOURS_A_DAY = 24.0


def simulate_calls(hours: AccountHours, level: Floats) -> dict[str, Any]:
    """Calls, breaches and deposits under a policy.

    At an hour that can be scored, an account whose headroom with all that it has paid so far is
    under its level is called, and pays the difference at once. A call is needed if the account,
    with its book of then and without that call, breaches within `FOLLOW_HOURS`; else in vain.
    An account in breach at its first hour is left out.

    Parameters
    ----------
    hours:
        Accounts as their owners run them.
    level:
        Add-on level at each account-hour, settlement currency, shape (N,); below 0 or NaN: no
        call.

    Returns
    -------
    ``calls``, ``needed``, ``in_vain``; ``missed_breaches``, accounts that breach in spite of their
    calls, and ``prevented_breaches``, those that breach only without; ``collected``, what calls
    brought in, settlement currency; ``median_lead_hours`` from a needed call to the breach that
    would have come, None without one; ``flips_per_account_day``: how often the state "headroom as
    the owner left it is below the level" begins or ends.
    """
    with_calls, without = follow(hours, level), follow(hours, np.full(len(hours), -1.0))
    breaches, calls = int(with_calls.breached.sum()), int(with_calls.called.sum())
    needed, followed = int(with_calls.needed.sum()), int(with_calls.followed.sum())
    lead = with_calls.lead
    per_hour = _bars_ahead(hours) / FOLLOW_HOURS
    return {
        "calls": calls,
        "needed": needed,
        "in_vain": calls - needed,
        "prevented_breaches": int(without.breached.sum()) - breaches,
        "missed_breaches": breaches,
        "collected": with_calls.collected,
        "median_lead_hours": float(np.median(lead[lead > 0]) / per_hour) if needed else None,
        "flips_per_account_day": (
            with_calls.flips / (followed / _HOURS_A_DAY) if followed else None
        ),
    }


@dataclass(frozen=True, slots=True)
class FollowedHours:
    """N account-hours under a policy, see `simulate_calls`; arrays of shape (N,).

    Attributes
    ----------
    followed:
        The account had not breached yet and could be scored.
    called, needed:
        It was called, and the call was needed.
    breached:
        It breached maintenance margin in spite of its calls: the end of its life.
    lead:
        Bars from a needed call to the breach that would have come, else 0.
    collected:
        What all calls brought in, settlement currency.
    flips:
        How often the state "headroom as the owner left it is below the level" began or ended.
    """

    followed: Bools
    called: Bools
    needed: Bools
    breached: Bools
    lead: npt.NDArray[np.int64]
    collected: float
    flips: int


def follow(hours: AccountHours, level: Floats) -> FollowedHours:
    """Follow accounts hour by hour under a policy; parameters as in `simulate_calls`."""
    followed, called, needed, breached = (np.zeros(len(hours), dtype=np.bool_) for _ in range(4))
    lead = np.zeros(len(hours), dtype=np.int64)
    collected, flips = _simulate(
        hours.times.start,
        hours.times.usable & (hours.gross > 0.0),
        hours.headroom,
        hours.at,
        hours.fall,
        level,
        _bars_ahead(hours),
        (followed, called, needed, breached, lead),
    )
    return FollowedHours(followed, called, needed, breached, lead, collected, flips)


def _bars_ahead(hours: AccountHours) -> int:
    """Bars in `FOLLOW_HOURS`."""
    step = int(hours.closes[1] - hours.closes[0])
    return FOLLOW_HOURS * HOUR // step


@njit(cache=True)
def _simulate(start, scored, headroom, at, fall, level, steps, out):  # type: ignore[no-untyped-def]
    followed, called, needed, breached, lead = out
    collected, flips = 0.0, 0
    for account in range(len(start) - 1):
        paid, state, begun = 0.0, -1, False
        for n in range(start[account], start[account + 1]):
            now = headroom[at[n]]
            if np.isnan(now):
                continue
            if now + paid < 0.0:
                if begun:
                    breached[n] = True
                break
            begun = True
            if not scored[n] or np.isnan(level[n]):
                continue
            followed[n] = True
            short = 1 if now < level[n] else 0
            if state >= 0 and short != state:
                flips += 1
            state = short
            missing = level[n] - (now + paid)
            if missing <= 0.0:
                continue
            called[n] = True
            if now - fall[n] + paid < 0.0:
                needed[n] = True
                for k in range(1, steps + 1):
                    if headroom[at[n] + k] + paid < 0.0:
                        lead[n] = k
                        break
            collected += missing
            paid += missing
    return collected, flips
