"""Calls of accounts from where they stand: what a policy asks for, hour by hour.

An account is followed with all that its owner did. What it pays on a call stays with it. Its life
ends at the first breach of maintenance margin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from market.core.clock import HOUR
from training.backtest.account_hours import FOLLOW_HOURS, AccountHours

Floats = npt.NDArray[np.float64]

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
    steps = _bars_ahead(hours)
    lead = np.zeros(len(hours), dtype=np.int64)
    scored = hours.times.usable & (hours.gross > 0.0)
    collected, breaches, calls, needed, flips, followed = _simulate(
        hours.times.start, scored, hours.headroom, hours.at, hours.fall, level, steps, lead
    )
    _, without, *_ = _simulate(
        hours.times.start,
        scored,
        hours.headroom,
        hours.at,
        hours.fall,
        np.full(len(hours), -1.0),
        steps,
        np.zeros_like(lead),
    )
    per_hour = steps / FOLLOW_HOURS
    return {
        "calls": calls,
        "needed": needed,
        "in_vain": calls - needed,
        "prevented_breaches": without - breaches,
        "missed_breaches": breaches,
        "collected": collected,
        "median_lead_hours": float(np.median(lead[lead > 0]) / per_hour) if needed else None,
        "flips_per_account_day": flips / (followed / _HOURS_A_DAY) if followed else None,
    }


def _bars_ahead(hours: AccountHours) -> int:
    """Bars in `FOLLOW_HOURS`."""
    step = int(hours.closes[1] - hours.closes[0])
    return FOLLOW_HOURS * HOUR // step


@njit(cache=True)
def _simulate(start, scored, headroom, at, fall, level, steps, lead):  # type: ignore[no-untyped-def]
    collected = 0.0
    breaches, calls, needed, flips, followed = 0, 0, 0, 0, 0
    for account in range(len(start) - 1):
        paid, state, begun = 0.0, -1, False
        for n in range(start[account], start[account + 1]):
            now = headroom[at[n]]
            if np.isnan(now):
                continue
            if now + paid < 0.0:
                if begun:
                    breaches += 1
                break
            begun = True
            if not scored[n] or np.isnan(level[n]):
                continue
            followed += 1
            short = 1 if now < level[n] else 0
            if state >= 0 and short != state:
                flips += 1
            state = short
            missing = level[n] - (now + paid)
            if missing <= 0.0:
                continue
            calls += 1
            if now - fall[n] + paid < 0.0:
                needed += 1
                for k in range(1, steps + 1):
                    if headroom[at[n] + k] + paid < 0.0:
                        lead[n] = k
                        break
            collected += missing
            paid += missing
    return collected, breaches, calls, needed, flips, followed
