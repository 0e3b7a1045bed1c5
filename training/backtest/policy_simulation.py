"""Simulation of a margin policy: what it collects and loses, account by account, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from numba import njit

from training.backtest.margin_paths import FOLLOW_HOURS, MarginPaths

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MarginOutcome:
    """Margin, calls and losses under a policy; settlement currency and counts.

    Attributes
    ----------
    average_margin:
        Maintenance margin plus add-on, mean over the at-risk account-hours.
    average_collected:
        Sum of all top-ups over the number of at-risk account-hours, the same for every policy.
    breaches:
        Accounts that fell below maintenance margin in spite of their top-ups.
    shortfall:
        Sum over accounts of the negative equity after closing out. More margin never breaches more
        accounts, but it can lose more: an account that survives one fall may meet a worse one.
    calls_issued, calls_needed, calls_in_vain:
        Top-ups demanded; those without which the account would have breached within
        `FOLLOW_HOURS`; the others.
    """

    average_margin: float
    average_collected: float
    breaches: float
    shortfall: float
    calls_issued: float
    calls_needed: float
    calls_in_vain: float

    def between(self, other: MarginOutcome, weight: float) -> MarginOutcome:
        """Linear interpolation, `weight` of the way to the other outcome."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return MarginOutcome(*(a + weight * (b - a) for a, b in pairs))


def average_margin(paths: MarginPaths, level: Floats) -> float:
    """Mean of maintenance margin plus add-on over the at-risk account-hours."""
    return float((paths.times.maintenance_margin + level)[paths.at_risk].mean())


def simulate_policy(paths: MarginPaths, level: Floats) -> MarginOutcome:
    """Simulate every account under a policy.

    At each decision hour with usable data, an account whose headroom, top-ups included, is under
    its add-on level is called and tops up to the level at once. Where its headroom is negative
    at the next hour's close it has breached: it is closed out at the close after that, at the
    mark and the closing cost, and its life ends.

    Parameters
    ----------
    paths:
        Lives without top-ups.
    level:
        Add-on level at each decision hour, settlement currency, at least 0, shape (N,).

    References
    ----------
    Cont (2015), "The end of the waterfall: default resources of central counterparties", for
    shortfall beyond margin.
    """
    collected, breaches, shortfall, issued, needed = _simulate_accounts(
        paths.times.start,
        paths.times.usable,
        paths.headroom,
        paths.closed_equity,
        paths.lowest_headroom,
        level,
        FOLLOW_HOURS,
    )
    return MarginOutcome(
        average_margin=average_margin(paths, level),
        average_collected=collected / int(paths.at_risk.sum()),
        breaches=float(breaches),
        shortfall=shortfall,
        calls_issued=float(issued),
        calls_needed=float(needed),
        calls_in_vain=float(issued - needed),
    )


@njit(cache=True)
def _simulate_accounts(start, usable, headroom, closed_equity, lowest, level, follow):  # type: ignore[no-untyped-def]
    collected, shortfall = 0.0, 0.0
    breaches, issued, needed = 0, 0, 0
    for account in range(len(start) - 1):
        paid = 0.0
        for n in range(start[account], start[account + 1]):
            p = n + account * follow
            missing = level[n] - (headroom[p] + paid)
            if usable[n] and missing > 0.0:
                issued += 1
                if lowest[n] + paid < 0.0:
                    needed += 1
                collected += missing
                paid += missing
            if headroom[p + 1] + paid < 0.0:
                breaches += 1
                shortfall += max(0.0, -(closed_equity[p + 2] + paid))
                break
    return collected, breaches, shortfall, issued, needed
