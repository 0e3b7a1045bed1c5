"""The live market as known after some bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.market_state import MarketFeatures, MarketState
from features.snapshot import MarketSnapshot
from market.clock import Interval, format_time
from market.errors import DataError
from market.outlier_filter import HELD, MISSED, SIDE
from market.panel import CLOSE
from market.told_quotes import ToldQuotes

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MarketMoment:
    """The market as known after some bars; never changed, only followed by another one.

    Attributes
    ----------
    committed:
        State before the pending step, or through the newest step where none is pending.
    head:
        State through the newest step.
    pending:
        Open of the pending step; None until the first bar is posted.
    features:
        One row, at the close of the newest step; None before the first bar.
    mark, mark_before:
        Last mark of each symbol now and before the pending step, shape (S,); NaN where there is
        none.
    told:
        The last values told of each bar by its open, shape (S, 5), NaN where none were; the
        newest `MEMORY_STEPS` steps.
    guard, guard_before:
        State of the outlier filter through the newest step and before the pending one, shape
        (S, 4).
    context:
        What the files tell beside the bars of the pending step, as `BarPanel.context`, shape
        (1, S, 4); None where they tell nothing.
    posted_context:
        What quotes tell beside the bars of the pending step and of those that have not begun, by
        their opens, shape (S, `serving.reference_prices.POSTED_WIDTH`) each; it goes before that
        of the files, and its last columns are reference prices of the bars.
    quotes:
        What quotes tell.
    """

    committed: MarketState
    head: MarketState
    pending: int | None
    features: MarketFeatures | None
    mark: Floats
    mark_before: Floats
    told: Mapping[int, Floats]
    guard: Floats
    guard_before: Floats
    context: Floats | None = None
    posted_context: Mapping[int, Floats] = field(default_factory=dict)
    quotes: ToldQuotes = field(default_factory=ToldQuotes)

    @property
    def suspect(self) -> Bools:
        """Symbols whose newest bar is suspect, shape (S,)."""
        waiting: Bools = self.guard[:, SIDE] != 0.0
        return waiting

    @property
    def suspect_bars(self) -> tuple[Floats, npt.NDArray[np.int64]] | None:
        """Close of each bar that waits for confirmation and when it closed, shape (S,) each.

        NaN and 0 where there is none; None where none waits.
        """
        suspect = self.suspect
        if not suspect.any() or self.newest_close is None:
            return None
        step = self.interval.nanoseconds
        price = np.where(suspect, self.guard[:, HELD], np.nan)
        # Of a bar that is remembered no more, the first that may have been it.
        missed = np.maximum(self.guard[:, MISSED], 1).astype(np.int64)
        ts = np.where(suspect, self.newest_close - (missed - 1) * step, 0)
        for column in np.flatnonzero(suspect).tolist():
            opens = (o for o, bars in self.told.items() if bars[column, CLOSE] == price[column])
            ts[column] = max(opens, default=int(ts[column]) - step) + step
        return price, ts

    @property
    def suspect_prices(self) -> list[tuple[str, float, int]]:
        """Name, price and time in nanoseconds of every price that waits for confirmation.

        Closes of bars come first, under ``bar of <SYMBOL>``, then quoted marks, forwards and cash
        assets by their identifiers.
        """
        found: list[tuple[str, float, int]] = []
        if (bars := self.suspect_bars) is not None:
            for column in np.flatnonzero(self.suspect).tolist():
                name = f"bar of {self.head.symbols[column]}"
                found.append((name, float(bars[0][column]), int(bars[1][column])))
        quoted = self.quotes.suspect_figures()
        return found + [(figure.instrument, figure.value[0], figure.ts) for figure in quoted]

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

    def snapshot(self, as_of: int) -> MarketSnapshot:
        """The market at `as_of`, no earlier than the newest close; without later quotes.

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
        suspect_mark, suspect_ts = self.suspect_bars or (None, None)
        return MarketSnapshot.at(
            as_of,
            self.interval,
            self.features,
            0,
            self.mark,
            self.suspect,
            self.quotes.board(as_of),
            suspect_mark,
            suspect_ts,
        )
