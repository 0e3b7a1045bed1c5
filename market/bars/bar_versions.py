"""The two clocks of a bar: when it happened, and when each version of it became known.

A bar may come several times. For the step that closes at time c and is followed by one that
closes at n, three versions count, each the newest of those known in time:

* ``at_close``, known by c plus `GRACE`: what a decision at c sees.
* ``settled``, known before n: what every later step builds on. The endpoint does the same, because
  it replays its newest step until a bar of a later one arrives.
* ``newest``, whenever known: what came to be true, for outcomes and never for a feature.

So a version that comes after n changes no feature of any row, older or newer: it is late.

References: Snodgrass and Ahn (1985), "A taxonomy of time in databases" (valid time and
transaction time).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from market.core.arrays import Bools, Floats, Ints
from market.core.clock import SECOND, Interval

Clock = Literal["at_close", "settled", "newest"]
Bars = tuple[Ints, Floats]
"""Ints (n,) and values (n, 5)."""

EARLY: tuple[Clock, ...] = ("at_close", "settled")
"""The clocks of features."""

GRACE = 30 * SECOND
"""A feed gives a bar a moment after it has closed, and no decision is taken before it did."""


def select_versions(
    opens: Ints,
    known: Ints | None,
    step: Interval,
    clock: Clock,
) -> Bools:
    """Which rows count by a clock, one of each open; shape (n,).

    Parameters
    ----------
    opens, known:
        Sorted by open, of one open the version known last first; None: every open is there once
        and was known at its close.
    step:
        Interval of the market, whose closes are the decision times.
    clock:
        Which version is asked for.
    """
    if known is None:
        return np.ones(len(opens), dtype=np.bool_)
    in_time = np.ones(len(opens), dtype=np.bool_)
    close = (opens // step.nanoseconds + 1) * step.nanoseconds
    if clock == "at_close":
        in_time = known <= close + GRACE
    elif clock == "settled":
        in_time = known < close + step.nanoseconds
    chosen = np.zeros(len(opens), dtype=np.bool_)
    rows = np.flatnonzero(in_time)
    chosen[rows[np.r_[True, np.diff(opens[rows]) > 0][: len(rows)]]] = True
    return chosen


def count_versions(early: Bars, newest: Bars) -> tuple[int, int]:
    """Bars that were not known in time, and bars that were corrected since."""
    late = int((~np.isin(newest[0], early[0])).sum())
    _, at, now = np.intersect1d(early[0], newest[0], assume_unique=True, return_indices=True)
    corrected = int((early[1][at] != newest[1][now]).any(axis=1).sum())
    return late, corrected
