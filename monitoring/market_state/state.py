"""The state of the live market after some bars and quotes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from decisions.errors import NoMarketError, RequestError
from features.registry import STALE_INTERVALS
from features.state.market_state import MarketFeatures, MarketState
from features.state.snapshot import MarketSnapshot
from market.bars.outlier_filter import MISSED, SIDE, SUSPECT_CLOSE
from market.bars.panel import CLOSE
from market.core.arrays import Bools, Floats
from market.core.clock import DAY, Interval, format_time, parse_time
from market.core.errors import DataError
from market.core.identity_cache import IdentityCache
from market.quotes.quote_store import SURFACE, QuoteField, QuoteStore, QuoteStoreBuilder
from monitoring.market_state.steps import AheadMarks, Checkpoint, Step
from monitoring.quotes.vol_references import surface_level

Clock = Literal["wall", "market"]
"""Decision time where a request names none: the wall clock, or the newest bar or quote."""

_MAX_AHEAD = DAY

_SNAPSHOTS = 8
"""Snapshots at a close that are kept: of the market now, and of its last states."""


@dataclass(frozen=True, slots=True)
class LiveMarketState:
    """The market after some bars and quotes; never changed, only followed by another state.

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
    received_bars:
        The last values received for each bar by its open, whether they count or not, shape (S, 5),
        NaN without any; of the kept steps and the newest `MEMORY_STEPS`.
    filter_state, filter_state_before:
        State of the outlier filter through the newest step and before it, shape (S, 4).
    checkpoints:
        The market before the oldest kept step and, once there are `KEPT_STEPS`, before a newer
        one: one or two.
    steps:
        The kept steps with bars or series, by their opens.
    waiting:
        Steps after the newest one, which do not count yet, by their opens.
    ahead:
        Marks by the bars of the waiting steps, one for each of them, rising.
    closed:
        Steps up to this open take no more bars; None: all kept ones do.
    corrections:
        Bars that count from the next step on, by their opens, shape (S, 5) each; NaN elsewhere.
    quote_series:
        Exogenous series from quotes for the newest step and later ones, by their opens, shape
        (S, `monitoring.market_state.steps.QUOTE_SERIES_WIDTH`) each; it takes precedence over that
        of the files, and its last columns are reference prices of the bars.
    quotes:
        The quotes in force and those that wait for confirmation.
    snapshots_at_close:
        Snapshots at the newest close, passed on from state to state: what `snapshot` starts from.
    """

    committed: MarketState
    head: MarketState
    features: MarketFeatures | None
    mark: Floats
    mark_before: Floats
    received_bars: Mapping[int, Floats]
    filter_state: Floats
    filter_state_before: Floats
    checkpoints: tuple[Checkpoint, ...]
    steps: Mapping[int, Step] = field(default_factory=dict)
    waiting: Mapping[int, Step] = field(default_factory=dict)
    ahead: tuple[AheadMarks, ...] = ()
    closed: int | None = None
    corrections: Mapping[int, Floats] = field(default_factory=dict)
    quote_series: Mapping[int, Floats] = field(default_factory=dict)
    quotes: QuoteStore = field(default_factory=QuoteStore)
    snapshots_at_close: IdentityCache[MarketSnapshot] = field(
        default_factory=lambda: IdentityCache(_SNAPSHOTS), repr=False, compare=False
    )

    @property
    def suspect(self) -> Bools:
        """Symbols whose newest bar is suspect, shape (S,)."""
        waiting: Bools = self.filter_state[:, SIDE] != 0.0
        return waiting

    @property
    def live(self) -> Bools:
        """Symbols that a quorum is counted among, shape (S,): those whose newest accepted bar is at
        most `STALE_INTERVALS` older than the newest step, or all where there is none."""
        all_symbols = np.ones(len(self.mark), dtype=np.bool_)
        if self.features is None:
            return all_symbols
        live: Bools = self.features.age[0] <= STALE_INTERVALS / self.interval.per_hour
        return live if live.any() else all_symbols

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
    def suspect_bars(self) -> tuple[Floats, npt.NDArray[np.int64]] | None:
        """Close of each bar that waits for confirmation and when it closed, shape (S,) each.

        NaN and 0 where there is none; None where none waits. Bars of waiting steps included.
        """
        ahead = self.ahead[-1] if self.ahead else None
        if ahead is not None:
            return self._suspect_bars(ahead.filter_state, ahead.close)
        return self._suspect_bars(self.filter_state, self.newest_close)

    def _suspect_bars(
        self, filter_state: Floats, close: int | None
    ) -> tuple[Floats, npt.NDArray[np.int64]] | None:
        """The same through a step that closes at `close`, from the state of the filter there."""
        suspect = filter_state[:, SIDE] != 0.0
        if not suspect.any() or close is None:
            return None
        step = self.interval.nanoseconds
        price = np.where(suspect, filter_state[:, SUSPECT_CLOSE], np.nan)
        # Of a bar that is remembered no more, the first that may have been it.
        missed = np.maximum(filter_state[:, MISSED], 1).astype(np.int64)
        ts = np.where(suspect, close - (missed - 1) * step, 0)
        for column in np.flatnonzero(suspect).tolist():
            opens = (
                o
                for o, bars in self.received_bars.items()
                if o < close and bars[column, CLOSE] == price[column]
            )
            ts[column] = max(opens, default=int(ts[column]) - step) + step
        return price, ts

    @property
    def suspect_prices(self) -> list[tuple[str, float, int]]:
        """Name, price and time in nanoseconds of every price that waits for confirmation.

        Closes of bars come first, under ``bar of <SYMBOL>``, then quoted marks, forwards and cash
        assets by their identifiers, vols of options as ``vol of <OPTION>``, surfaces as ``surface
        of <EXPIRY>`` with their vol at the forward, NaN without a forward.
        """
        prices: list[tuple[str, float, int]] = []
        if (bars := self.suspect_bars) is not None:
            for column in np.flatnonzero(np.isfinite(bars[0])).tolist():
                name = f"bar of {self.head.symbols[column]}"
                prices.append((name, float(bars[0][column]), int(bars[1][column])))
        fields, known = self.quotes.suspect_figures(), QuoteStoreBuilder(self.quotes)
        return prices + [_suspect_quote(quoted, known) for quoted in fields]

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

    def decision_snapshot(
        self, as_of: str | None, clock: Clock, mark_max_age: int | None = None
    ) -> MarketSnapshot:
        """The market at the decision time of a request: an ISO 8601 time, or by the clock.

        Raises
        ------
        NoMarketError
            There is no bar yet.
        RequestError
            The time is not one, is over a day ahead, or is before what can be answered.
        """
        newest = self.newest_known
        if newest is None or self.newest_close is None:
            raise NoMarketError("the market has no bar yet; post bars first")
        # A clock that was set back must not put the decision before what is known.
        now = max(time.time_ns(), newest)
        try:
            if as_of is None:
                time_of_decision = now if clock == "wall" else newest
            else:
                time_of_decision = parse_time(as_of)
            if time_of_decision > now + _MAX_AHEAD:
                raise RequestError(
                    f"as_of {as_of} is more than a day after {format_time(now)}; a decision ahead "
                    "of its time would hold back those that follow"
                )
            return self.snapshot(time_of_decision, mark_max_age)
        except DataError as error:
            raise RequestError(str(error)) from None

    def snapshot(self, as_of: int, mark_max_age: int | None = None) -> MarketSnapshot:
        """The market at `as_of`, no earlier than the newest close; without later quotes.

        Accepted bars of waiting steps that had closed by then are the marks of their symbols; the
        features, and the ages by which the model may be asked, stay those of the newest step.
        `mark_max_age` is that of `MarketSnapshot`, nanoseconds.

        Raises
        ------
        NoMarketError
            There is no bar yet.
        DataError
            There is a newer bar than `as_of`; or so many newer quotes that what was known of one
            at `as_of` is not kept.
        """
        if self.features is None or self.newest_close is None:
            raise NoMarketError("the market has no bar yet; post bars first")
        if as_of < self.newest_close:
            raise DataError(
                f"as_of {format_time(as_of)} is before {format_time(self.newest_close)}, the "
                "close of the newest bar; leave as_of out or give a later time"
            )
        ahead = next((a for a in reversed(self.ahead) if a.close <= as_of), None)
        # Quotes move on more often than bars: states that differ in them alone share a snapshot.
        features = self.features
        at_close = self.snapshots_at_close.get(
            (features, self.mark, self.filter_state, self.received_bars, ahead, mark_max_age),
            lambda: self._snapshot_at_close(features, ahead, mark_max_age),
        )
        return at_close.at(as_of, self.quotes.board(as_of))

    def _snapshot_at_close(
        self, features: MarketFeatures, ahead: AheadMarks | None, mark_max_age: int | None
    ) -> MarketSnapshot:
        """The market at the newest close, with the marks of the waiting steps up to one of them."""
        at = int(features.closes[0])
        mark, filter_state, close, mark_close = self.mark, self.filter_state, at, None
        if ahead is not None:
            mark, filter_state, close = ahead.mark, ahead.filter_state, ahead.close
            mark_close = ahead.closes
        suspect_mark, suspect_ts = self._suspect_bars(filter_state, close) or (None, None)
        return MarketSnapshot(
            as_of=at,
            interval=self.interval,
            at_close=features.at(0, at),
            mark=mark,
            suspect=filter_state[:, SIDE] != 0.0,
            suspect_mark=suspect_mark,
            suspect_ts=suspect_ts,
            mark_max_age=mark_max_age,
            mark_close=mark_close,
        )


def _suspect_quote(quoted: QuoteField, known: QuoteStoreBuilder) -> tuple[str, float, int]:
    """Name, price or vol, and time of a suspect field."""
    if quoted.figure == "vol":
        return f"vol of {quoted.instrument}", quoted.value[0], quoted.ts
    if quoted.key[1] != SURFACE:
        return quoted.instrument, quoted.value[0], quoted.ts
    forward = known.in_force(quoted.instrument, "forward")
    level = None
    if forward is not None:
        level = surface_level(quoted, forward.value[0], forward.value[0])
    value = math.nan if level is None else level.value
    return f"surface of {quoted.instrument}", value, quoted.ts
