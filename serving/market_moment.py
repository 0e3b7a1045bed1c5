"""The live market as known after some bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from features.market_state import MarketFeatures, MarketState
from features.registry import STALE_INTERVALS
from features.snapshot import MarketSnapshot
from market.clock import HOUR, Interval, format_time
from market.errors import DataError
from market.price_guard import SIDE
from market.told_quotes import ToldQuotes
from serving.live_steps import AheadMarks, Bools, Checkpoint, Floats, Step


@dataclass(frozen=True, slots=True)
class MarketMoment:
    """The market as known after some bars; never changed, only followed by another one.

    Attributes
    ----------
    committed:
        State before the newest step.
    head:
        State through the newest step, the newest one that counts.
    features:
        One row, at the close of the newest step; None before the first bar.
    mark, mark_before:
        Last mark of each symbol now and before the newest step, shape (S,); NaN where there is
        none.
    told:
        The last values posted of each bar by its open, whether they count or not, shape (S, 5),
        NaN where none were; of the kept steps and the newest `MEMORY_STEPS`.
    guard, guard_before:
        State of the outlier filter through the newest step and before it, shape (S, 4).
    checkpoints:
        The market before the oldest kept step and, once there are `KEPT_STEPS`, before a newer
        one: one or two.
    steps:
        The kept steps that something has arrived for, by their opens.
    waiting:
        Steps after the newest one, which do not count yet, by their opens.
    ahead:
        Marks by the bars of the waiting steps, one for each of them, rising.
    closed:
        Steps up to this open take no more bars; None: all kept ones do.
    corrections:
        Bars that count from the next step on, by their opens, shape (S, 5) each; NaN elsewhere.
    posted_context:
        What quotes tell beside the bars of the newest step and of later ones, by their opens,
        shape (S, 7) each; it goes before that of the files.
    quotes:
        What quotes tell.
    """

    committed: MarketState
    head: MarketState
    features: MarketFeatures | None
    mark: Floats
    mark_before: Floats
    told: Mapping[int, Floats]
    guard: Floats
    guard_before: Floats
    checkpoints: tuple[Checkpoint, ...]
    steps: Mapping[int, Step] = field(default_factory=dict)
    waiting: Mapping[int, Step] = field(default_factory=dict)
    ahead: tuple[AheadMarks, ...] = ()
    closed: int | None = None
    corrections: Mapping[int, Floats] = field(default_factory=dict)
    posted_context: Mapping[int, Floats] = field(default_factory=dict)
    quotes: ToldQuotes = field(default_factory=ToldQuotes)

    @property
    def suspect(self) -> Bools:
        """Symbols whose newest bar is suspect, shape (S,)."""
        waiting: Bools = self.guard[:, SIDE] != 0.0
        return waiting

    @property
    def live(self) -> Bools:
        """Symbols that a quorum is counted among, shape (S,): those whose newest accepted bar is at
        most `STALE_INTERVALS` older than the newest step, or all where there is none."""
        everyone = np.ones(len(self.mark), dtype=np.bool_)
        if self.features is None:
            return everyone
        live: Bools = self.features.age[0] <= STALE_INTERVALS / self.interval.per_hour
        return live if live.any() else everyone

    @property
    def oldest_kept(self) -> int | None:
        """Open of the oldest kept step; None before the first one."""
        oldest = self.checkpoints[0].next_open
        return min(self.steps, default=None) if oldest is None else oldest

    @property
    def pending(self) -> int | None:
        """Open of the newest step if its bars can be replaced; None where it came as it is."""
        newest, oldest = self.head.last_open, self.oldest_kept
        return newest if newest is not None and oldest is not None and newest >= oldest else None

    @property
    def interval(self) -> Interval:
        """Length of a step."""
        return self.head.interval

    @property
    def newest_close(self) -> int | None:
        """Close of the newest step in nanoseconds; None before the first bar."""
        last = self.head.last_open
        return None if last is None else last + self.interval.nanoseconds

    @property
    def newest_known(self) -> int | None:
        """Close of the newest step or time of the newest quote, the later one."""
        return max(filter(None, (self.newest_close, self.quotes.newest)), default=None)

    def snapshot(self, as_of: int, mark_max_age: int | None = None) -> MarketSnapshot:
        """The market at `as_of`, no earlier than the newest close; without later quotes.

        Accepted bars of waiting steps that had closed by then are the marks of their symbols, and
        their ages count from these bars. `mark_max_age` is that of `MarketSnapshot`, nanoseconds.

        Raises
        ------
        DataError
            There is no bar yet, or a newer one than `as_of`; or so many newer quotes that what
            was known of one at `as_of` is not kept.
        """
        if self.features is None or self.newest_close is None:
            raise DataError("the market has no bar yet; post bars first")
        if as_of < self.newest_close:
            raise DataError(
                f"as_of {format_time(as_of)} is before {format_time(self.newest_close)}, the "
                "close of the newest bar; leave as_of out or give a later time"
            )
        mark, guard, features = self.mark, self.guard, self.features
        ahead = next((a for a in reversed(self.ahead) if a.close <= as_of), None)
        if ahead is not None:
            mark, guard = ahead.mark, ahead.guard
            # An age counts to the newest close here, and `MarketSnapshot.at` adds the rest.
            hours = (self.newest_close - ahead.closes) / HOUR
            features = replace(features, age=np.where(ahead.closes > 0, hours, features.age))
        return MarketSnapshot.at(
            as_of,
            self.interval,
            features,
            0,
            mark,
            guard[:, SIDE] != 0.0,
            self.quotes.board(as_of),
            mark_max_age=mark_max_age,
        )
