"""The recorded steps, as rows beside the bar files of a history.

Which bars counted is read from the record and not decided again: late ones are left out, a
correction counts once a later step does, and a step counts once its entry says so. Exogenous series
and quoted marks of a step are recorded with the bars that end it; those of the newest step are
built from the quotes since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ledger.records import Record
from ledger.store import Ledger
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH
from market.bars.recorded_rows import RecordedRows, RecordedSource
from market.core.arrays import Floats, Ints
from market.core.clock import Interval, parse_time
from market.core.errors import DataError
from market.sources.base import BarValues
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.bar_updates import BARS
from monitoring.market_state.exogenous import ExogenousUpdate, from_records, is_better, steps_near
from monitoring.market_state.messages import BarResult
from monitoring.market_state.steps import PERPETUAL_MARK, QUOTE_SERIES_WIDTH, SPOT_MARK
from monitoring.quotes.messages import QuoteResult
from monitoring.quotes.quote_updates import QUOTES
from monitoring.recovery.recovery import QUOTE_BOARD

_PERPETUAL = "-PERP"


def rows_known_at(ledger: Ledger, as_of: int) -> RecordedSource:
    """The recorded rows as they stood when the newest step had closed by `as_of`: what a batch
    job puts beside the files to see what the endpoint saw."""

    def source(symbols: Sequence[str], interval: Interval, grid: Ints) -> RecordedRows | None:
        steps = _Steps(symbols, interval, int(grid[0]))
        last, following = None, None
        for record in ledger.records(BARS):
            close = steps.newest_close_after(record)
            if close is not None and close > as_of:
                following = record
                break
            last = record
            steps.add(record)
        steps.add_quotes(ledger, last, following, as_of)
        end = int(grid[-1]) if steps.newest is None else max(int(grid[-1]), steps.newest)
        return steps.rows(min(end, as_of - interval.nanoseconds))

    return source


def rows_before_the_newest(ledger: Ledger) -> RecordedSource:
    """All recorded rows before the newest step of the files: what a restart puts beside them.

    The newest step and later ones are applied by `monitoring.recovery.recovery`. A correction that
    waits for the next step counts at once. Records whose bars all closed before the first row of
    the files are not read.
    """

    def source(symbols: Sequence[str], interval: Interval, grid: Ints) -> RecordedRows | None:
        steps = _Steps(symbols, interval, int(grid[0]))
        last = None
        for record in ledger.records(BARS, since_as_of=int(grid[0])):
            last = record
            steps.add(record)
        steps.add_quotes(ledger, last, None, None)
        steps.settle()
        return steps.rows(int(grid[-1]) - interval.nanoseconds)

    return source


class _Steps:
    """Recorded entries put together in the order of recording."""

    def __init__(self, symbols: Sequence[str], interval: Interval, first: int) -> None:
        self.newest: int | None = None
        self._closed: int | None = None
        self._columns = {symbol: i for i, symbol in enumerate(symbols)}
        self._interval, self._first = interval, first
        self._bars: dict[int, Floats] = {}
        self._corrected: set[tuple[int, int]] = set()
        self._pending: dict[tuple[int, int], BarValues] = {}
        self._series: dict[int, Floats] = {}

    def newest_close_after(self, record: Record) -> int | None:
        """Close of the newest step once this entry counted; None before the first one."""
        newest = self._newest_after(record.payload)
        return None if newest is None else newest + self._interval.nanoseconds

    def add(self, record: Record) -> None:
        """Add one entry."""
        payload = record.payload
        if payload.get("interval") != self._interval.name:
            return
        try:
            bars = bar_updates(msgspec.convert(payload["bars"], list[BarIn])).readable()
            results = msgspec.convert(payload["results"], list[BarResult])
            updates = from_records(payload.get("context", ()), self._columns, self._interval)
        except (KeyError, msgspec.ValidationError) as error:
            raise _unreadable(record, error) from error
        for update in updates:
            self._set_series(update)
        for bar, result in zip(bars, results, strict=True):
            column = self._columns.get(bar.symbol)
            if column is None or bar.ts < self._first or result.status == "late":
                continue
            if self._is_correction(payload, result, bar.ts):
                self._pending[bar.ts, column] = bar.values
            else:
                self._put(bar.ts, column, bar.values, corrected=result.status == "corrected")
        newest = self._newest_after(payload)
        if newest != self.newest:
            self.newest = newest
            self.settle()
        final = payload.get("final_until")
        if final is not None:
            self._closed = parse_time(str(final))

    def settle(self) -> None:
        """Let the corrections count that waited for a later step."""
        for (open_, column), values in self._pending.items():
            self._put(open_, column, values, corrected=True)
        self._pending = {}

    def add_quotes(
        self, ledger: Ledger, last: Record | None, following: Record | None, as_of: int | None
    ) -> None:
        """Add the marks quoted since the entry `last` and before `following`.

        They are references of the newest step and of later ones; those of older steps came with
        `last`.
        """
        since = None if last is None else last.recorded_at
        board = ledger.last_record(QUOTE_BOARD)
        if (
            board is not None
            and (since is None or board.recorded_at >= since)
            and (following is None or board.recorded_at < following.recorded_at)
            and (as_of is None or (board.as_of or 0) <= as_of)
        ):
            since = board.recorded_at
            for update in from_records(board.payload["context"], self._columns, self._interval):
                self._set_series(update)
        newest: dict[str, int] = {}
        for record in ledger.records(QUOTES, since_recorded=since):
            if following is not None and record.recorded_at >= following.recorded_at:
                break
            try:
                messages = msgspec.convert(record.payload["quotes"], list[QuoteIn])
                quotes = quote_updates(messages).readable()
                results = msgspec.convert(record.payload.get("results", ()), list[QuoteResult])
            except (KeyError, msgspec.ValidationError) as error:
                raise _unreadable(record, error) from error
            late = {i for i, result in enumerate(results) if result.status == "late"}
            for i, quote in enumerate(quotes):
                mark = quote.figures.get("mark")
                if mark is None or quote.ts is None or i in late:
                    continue
                known = newest.get(quote.instrument, quote.ts)
                if quote.ts < known or (as_of is not None and quote.ts > as_of):
                    continue
                newest[quote.instrument] = quote.ts
                self._add_reference(quote.instrument, quote.ts, mark[0])

    def rows(self, last: int) -> RecordedRows | None:
        """The rows that open up to `last`; None where nothing is recorded of any."""
        opens = sorted(o for o in self._bars.keys() | self._series.keys() if o <= last)
        if not opens:
            return None
        shape = (len(opens), len(self._columns))
        bars, series = np.full((*shape, 5), np.nan), np.full((*shape, QUOTE_SERIES_WIDTH), np.nan)
        corrected = np.zeros(shape, dtype=np.bool_)
        place = {open_: row for row, open_ in enumerate(opens)}
        for open_, row in place.items():
            bars[row] = self._bars.get(open_, np.nan)
            series[row] = self._series.get(open_, np.nan)
        for open_, column in self._corrected:
            if open_ in place:
                corrected[place[open_], column] = True
        return RecordedRows(
            np.array(opens, dtype=np.int64),
            bars,
            corrected,
            series[:, :, :EXOGENOUS_WIDTH].copy(),
            series[:, :, EXOGENOUS_WIDTH:].copy(),
        )

    def _newest_after(self, payload: Mapping[str, Any]) -> int | None:
        if payload.get("interval") != self._interval.name:
            return self.newest
        newest = payload.get("newest")
        if "steps" not in payload:
            # Written by an earlier version, in which the first bar of a step made it count.
            pairs = zip(payload["bars"], payload["results"], strict=True)
            opens = [bar["ts"] for bar, result in pairs if result["status"] != "late"]
            newest = max(opens, key=parse_time, default=None)
        if newest is None:
            return self.newest
        open_ = parse_time(str(newest))
        return open_ if self.newest is None else max(open_, self.newest)

    def _is_correction(self, payload: Mapping[str, Any], result: BarResult, open_: int) -> bool:
        """Whether a bar counts from the next step on: its step is older or final."""
        if "correction" not in payload or result.status != "corrected" or self.newest is None:
            return False
        return open_ < self.newest or (self._closed is not None and open_ <= self._closed)

    def _put(self, open_: int, column: int, values: BarValues, *, corrected: bool) -> None:
        bars = self._bars.get(open_)
        if bars is None:
            bars = self._bars[open_] = np.full((len(self._columns), 5), np.nan)
        if corrected or not math.isnan(bars[column, CLOSE]):
            self._corrected.add((open_, column))
        bars[column] = values

    def _set_series(self, update: ExogenousUpdate) -> None:
        if update.open < self._first:
            return
        series = self._series.get(update.open)
        if series is None:
            series = np.full((len(self._columns), QUOTE_SERIES_WIDTH), np.nan)
            self._series[update.open] = series
        series[update.column, update.kind] = update.value

    def _add_reference(self, instrument: str, ts: int, value: float) -> None:
        """Add a quoted mark as reference of the open steps that close near it."""
        column = self._columns.get(instrument.removesuffix(_PERPETUAL))
        if column is None:
            return
        kind = PERPETUAL_MARK if instrument.endswith(_PERPETUAL) else SPOT_MARK
        for open_ in steps_near(ts, self._interval):
            if self.newest is not None and open_ < self.newest:
                continue
            series, bars = self._series.get(open_), self._bars.get(open_)
            known = math.nan if series is None else float(series[column, kind])
            close = math.nan if bars is None else float(bars[column, CLOSE])
            if is_better(value, known, close):
                self._set_series(ExogenousUpdate(open_, column, kind, value))


def _unreadable(record: Record, error: Exception) -> DataError:
    return DataError(
        f"record {record.id} does not hold {record.kind} ({error}); it was written by another "
        "version: use that one, or give a ledger of this one"
    )
