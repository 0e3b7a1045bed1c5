"""The live market: moved by posted bars, one step of all symbols at a time.

The newest step is pending: each of its bars replays it on a copy of the state before it. It is
committed when a bar of a later step arrives. So the features after all bars of a step are those
of the batch to the last bit, in whatever order the bars came, and a bar that comes later than
its step changes nothing that was known. The price guard judges the bars of a step together, by
what stood before the step: a suspect bar is recorded and counts as missing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import msgspec
import numpy as np
import numpy.typing as npt

from features.market_state import MarketFeatures, MarketState
from features.snapshot import MarketSnapshot
from ledger.records import Entry
from ledger.store import Ledger
from market.clock import format_time
from market.errors import DataError
from market.panel import CLOSE, BarPanel
from market.price_guard import PriceGuard, new_state
from serving.bar_checks import (
    MAX_AHEAD_DAYS,
    MAX_AHEAD_DAYS_UNCLOCKED,
    BarChecks,
    SoundBar,
)
from serving.market_moment import MarketMoment
from serving.messages import BarIn, BarResult, BarsResponse
from serving.pending_step import MEMORY_STEPS, BarStatus, PendingStep

_LOG = logging.getLogger("margincast.serving")

Floats = npt.NDArray[np.float64]

_KEPT = ("applied", "corrected", "suspect", "late")


@dataclass(frozen=True, slots=True)
class PostedBars:
    """What became of posted bars.

    Attributes
    ----------
    response:
        The answer.
    entry:
        What to record; None where the bars told nothing new.
    """

    response: BarsResponse
    entry: Entry | None


class LiveMarket:
    """A market that posted bars move. Safe to use from several threads.

    Parameters
    ----------
    state:
        Advanced through the history; taken over.
    mark:
        Last mark of each symbol, shape (S,); NaN where there is none.
    features:
        Features of the history, of which the last row counts; None without history.
    recent:
        Bars of the history as told, the newest of which are known when they come again.
    guard:
        Judges the bars; None takes them as they are told.
    guard_state:
        Where it stands after the history, shape (S, 4); None: before any bar.

    Raises
    ------
    DataError
        The parts do not fit together.
    """

    def __init__(
        self,
        state: MarketState,
        mark: Floats,
        features: MarketFeatures | None,
        recent: BarPanel | None = None,
        guard: PriceGuard | None = None,
        guard_state: Floats | None = None,
    ) -> None:
        newest = None if state.last_open is None else state.last_open + state.interval.nanoseconds
        at = None if features is None or not len(features.closes) else int(features.closes[-1])
        if mark.shape != (len(state.symbols),) or at != newest:
            raise DataError(
                f"a live market needs a mark for each of {len(state.symbols)} symbols and features "
                f"at {newest}; got marks of shape {mark.shape} and features at {at}"
            )
        begun = new_state(len(state.symbols)) if guard_state is None else guard_state.copy()
        if begun.shape != new_state(len(state.symbols)).shape:
            raise DataError(
                f"a price guard of shape {begun.shape} does not fit {len(state.symbols)} symbols"
            )
        self._guard = guard
        self._columns = {symbol: i for i, symbol in enumerate(state.symbols)}
        self._lock = threading.Lock()
        self._moment = MarketMoment(
            committed=state,
            head=state,
            pending=None,
            features=None if features is None or at is None else _last_row(features),
            mark=mark.copy(),
            mark_before=mark.copy(),
            told={} if recent is None else _told(recent, state),
            guard=begun,
            guard_before=begun,
        )

    @property
    def moment(self) -> MarketMoment:
        """What is known now; a caller that uses it twice sees the same market twice."""
        return self._moment

    @property
    def newest_close(self) -> int | None:
        """Close of the newest step in nanoseconds; None before the first bar."""
        return self._moment.newest_close

    def snapshot(self, as_of: int) -> MarketSnapshot:
        """The market now for a decision at `as_of`, see `MarketMoment.snapshot`."""
        return self._moment.snapshot(as_of)

    def post(
        self,
        interval: str,
        bars: Sequence[BarIn],
        *,
        now: int | None = None,
        record: Callable[[Entry], object] | None = None,
    ) -> BarsResponse:
        """Take in bars of any steps in any order; each step is computed once.

        Parameters
        ----------
        interval:
            Name of their interval.
        bars:
            The bars.
        now:
            Wall clock; bars that have not closed by then are rejected. None: the bars are the
            clock, and none may open more than a week ahead of the newest one.
        record:
            Called once with what is new, before the market moves: if it raises, nothing moved.

        Returns
        -------
        Results in the order of the bars, and the close of the newest step.
        """
        with self._lock:
            ahead = MAX_AHEAD_DAYS_UNCLOCKED if now is None else MAX_AHEAD_DAYS
            moment, posted = self._follow(self._moment, interval, bars, now, ahead)
            if posted.entry is not None and record is not None:
                record(posted.entry)
            self._moment = moment
        return posted.response

    def open_step(self, bars: BarPanel, mark: Floats) -> None:
        """Take the newest step of a history as pending, so that its bars can still be corrected.

        Parameters
        ----------
        bars:
            One row as told, later than what is known; NaN where a symbol has no bar. Its context
            stays with the step, whatever bars are corrected.
        mark:
            Mark of each symbol at its close, shape (S,).
        """
        with self._lock:
            step = PendingStep(self._moment, int(bars.opens[0]), self._guard, bars.context)
            for column in np.flatnonzero(~np.isnan(bars.values[0, :, CLOSE])).tolist():
                step.take(SoundBar(int(bars.opens[0]), column, bars.values[0, column]))
            self._moment = replace(step.moment(), mark=mark.copy())

    def catch_up(self, ledger: Ledger) -> int:
        """Apply the recorded bars that are not older than the newest step, as they were recorded.

        Returns
        -------
        How many bars were applied or corrected.

        Raises
        ------
        LedgerError
            The ledger cannot be read, or a record was altered.
        DataError
            A record holds no bars.
        """
        count = 0
        with self._lock:
            moment = self._moment
            # The newest step included: its corrections were recorded at its own close.
            for record in ledger.records("bars", since_as_of=moment.newest_close):
                try:
                    bars = msgspec.convert(record.payload["bars"], list[BarIn])
                    interval = str(record.payload["interval"])
                except (KeyError, msgspec.ValidationError) as error:
                    raise DataError(
                        f"record {record.id} does not hold bars ({error}); it was written by "
                        "another version, start from a newer history"
                    ) from error
                moment, posted = self._follow(moment, interval, bars, None, MAX_AHEAD_DAYS)
                statuses = [result.status for result in posted.response.results]
                count += statuses.count("applied") + statuses.count("corrected")
                for result in posted.response.results:
                    if result.status == "rejected":
                        _LOG.warning(
                            "recorded bar %s %s no longer fits this market: %s",
                            result.symbol,
                            result.ts,
                            result.detail,
                        )
            self._moment = moment
        return count

    def _follow(
        self,
        moment: MarketMoment,
        interval: str,
        bars: Sequence[BarIn],
        now: int | None,
        max_ahead_days: int,
    ) -> tuple[MarketMoment, PostedBars]:
        checks = BarChecks(moment.interval, self._columns, now, max_ahead_days)
        results: list[BarResult | None] = [None] * len(bars)
        sound: list[tuple[int, SoundBar]] = []
        for i, checked in enumerate(checks.check(interval, bars)):
            if isinstance(checked, str):
                results[i] = BarResult(bars[i].symbol, bars[i].ts, "rejected", checked)
            else:
                sound.append((i, checked))
        sound.sort(key=lambda entry: entry[1].open)
        for open_, group in groupby(sound, key=lambda entry: entry[1].open):
            too_far = checks.check_ahead(open_, moment.head.last_open)
            if too_far is not None:
                for i, _ in group:
                    results[i] = BarResult(bars[i].symbol, bars[i].ts, "rejected", too_far)
                continue
            step = PendingStep(moment, open_, self._guard)
            taken: list[tuple[int, int, BarStatus]] = []
            for i, bar_ in group:
                if step.has(bar_.column):  # told twice in one post: each is judged as it came
                    moment = step.answer(bars, taken, results)
                    step, taken = PendingStep(moment, open_, self._guard), []
                taken.append((i, bar_.column, step.take(bar_)))
            moment = step.answer(bars, taken, results)
        return moment, _posted(interval, bars, [r for r in results if r is not None], moment)


def _posted(
    interval: str, bars: Sequence[BarIn], results: list[BarResult], moment: MarketMoment
) -> PostedBars:
    newest = moment.newest_close
    response = BarsResponse(results, None if newest is None else format_time(newest))
    kept = [i for i, result in enumerate(results) if result.status in _KEPT]
    if not kept:
        return PostedBars(response, None)
    payload = {
        "interval": interval,
        "bars": [msgspec.to_builtins(bars[i]) for i in kept],
        "results": [msgspec.to_builtins(results[i]) for i in kept],
    }
    return PostedBars(response, Entry("bars", payload, as_of=newest))


def _last_row(features: MarketFeatures) -> MarketFeatures:
    return MarketFeatures(
        symbols=features.symbols,
        closes=features.closes[-1:].copy(),
        values=features.values[-1:].copy(),
        correlation=features.correlation[-1:].copy(),
        fast_correlation=features.fast_correlation[-1:].copy(),
        age=features.age[-1:].copy(),
        history=features.history[-1:].copy(),
        seen=features.seen[-1:].copy(),
        daily=features.daily_at(-1),
    )


def _told(recent: BarPanel, state: MarketState) -> dict[int, Floats]:
    if recent.symbols != state.symbols or recent.interval != state.interval:
        raise DataError(
            f"recent bars of {len(recent.symbols)} symbols at {recent.interval.name} do not fit a "
            f"state of {len(state.symbols)} symbols at {state.interval.name}"
        )
    opens = recent.opens[-MEMORY_STEPS:].tolist()
    values = recent.values[-MEMORY_STEPS:].copy()
    return dict(zip(opens, values, strict=True))
