"""Apply posted bars to the live market, and record what they changed.

An entry names the steps that come to count or change by its bars, and the symbols that each has
then. With the bars that make a newest step goes what quotes provided for it and for the steps
before it: so a restart knows the exogenous series and the reference prices of a step from its bars
alone. With them go the suspect quotes that they confirm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from ledger.records import Entry
from market.bars.filtered_bars import RECENT_ROWS
from market.bars.outlier_filter import LIMITED, SUSPECT, OutlierFilter, Verdicts, is_rejected
from market.bars.panel import CLOSE
from market.core.arrays import Bools, Floats
from market.core.clock import format_time
from market.sources.base import BarUpdate, BarValues
from market.sources.http import bar_message
from monitoring.market_state import steps as live_steps
from monitoring.market_state.bar_checks import BarChecks
from monitoring.market_state.exogenous import to_records
from monitoring.market_state.messages import BarResult, BarsResponse, BarStatus
from monitoring.market_state.recompute import ahead_marks, recompute
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import Counting, Reason, Step
from monitoring.quotes.filter_record import confirmed_payload
from monitoring.quotes.quote_updates import confirm_by_bars

MEMORY_STEPS = RECENT_ROWS
"""A bar that comes again is recognised as a duplicate for so many steps back, and for all kept
ones."""

_CORRECT = 'an admin may post it again with "correct": true'
_KNOWN = f"a later step counts: recorded, but the bar that is there stays; {_CORRECT}"
_FINAL = f"its step is final: recorded, but what is known stays; {_CORRECT}"
_TOO_OLD = (
    "its step is older than the kept ones: recorded, but what is known stays; put it into the "
    "bar files and start from them"
)
_WAS_LATE = "late when it was recorded: what was known stays"
REPLACED = "replaced by a later one of the same request"
"""Detail of a bar that a later one replaced before its step counted."""

_CORRECTION = "counts from the next step on; earlier decisions stay"
_SUSPECT = (
    "the close is beyond the band of the outlier filter: recorded, and missing until a quoted mark "
    "or the next bar of the symbol confirms it"
)
_REJECTED = (
    "the close is beyond the hard band of the outlier filter: recorded, and missing; correct the "
    "bar where it is wrong"
)
_LIMITED = "the open or an extreme is beyond the band of the outlier filter and was limited to it"

BARS = "bars"
"""Kind of the ledger entries that hold posted bars."""

_RECORDED = ("applied", "corrected", "suspect", "late")


@dataclass(frozen=True, slots=True)
class AppliedBars:
    """Posted bars as applied.

    Attributes
    ----------
    response:
        The results, for the sender.
    entry:
        What to record; None where no bar was new and no step came to count.
    """

    response: BarsResponse
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Correction:
    """Makes bars that are late corrections; the author is recorded."""

    author: str


def apply_bars(
    state: LiveMarketState,
    interval: str,
    bars: Sequence[BarUpdate],
    checks: BarChecks,
    outlier_filter: OutlierFilter | None,
    counting: Counting,
    *,
    correction: Correction | None = None,
    late: Collection[int] = (),
) -> tuple[LiveMarketState, AppliedBars]:
    """The market with these bars, of any steps in any order; each step is computed once.

    Parameters
    ----------
    state:
        The market before.
    interval:
        Name of their interval.
    bars:
        The bars; none where only a grace is over.
    checks:
        Checks each bar alone.
    outlier_filter:
        Filters them; None: all are taken as they are.
    counting:
        How steps come to count.
    correction:
        Given where bars that are late are corrections.
    late:
        Places of bars that were recorded as late and stay so.
    """
    builder = StepBuilder(state, bars, counting, outlier_filter, correct=correction is not None)
    results = builder.results
    valid: list[tuple[int, BarUpdate]] = []
    for i, refusal in enumerate(checks.check(interval, bars) if bars else ()):
        if refusal is None:
            valid.append((i, bars[i]))
        else:
            results[i] = _rejected(bars[i], refusal)
    valid.sort(key=lambda entry: entry[1].ts)
    for open_, group in groupby(valid, key=lambda entry: entry[1].ts):
        too_far = checks.check_ahead(open_, builder.newest)
        if too_far is None:
            builder.add(list(group), frozenset(late))
            continue
        for i, _ in group:
            results[i] = _rejected(bars[i], too_far)
    after = builder.finish()
    final_results = [result for result in results if result is not None]
    # What the outlier filter rejected is recorded; what no market can have is not.
    recorded = [
        i
        for i, result in enumerate(final_results)
        if result.status in _RECORDED or i in builder.beyond_hard_band
    ]
    ended = after.closed != state.closed
    if (
        not recorded
        and not ended
        and not builder.counted
        and after.newest_close == state.newest_close
    ):
        after = state
    newest = after.newest_close
    response = BarsResponse(final_results, None if newest is None else format_time(newest))
    if after is state:
        return state, AppliedBars(response, None)
    accepted = {
        (bar.ts, checks.columns[bar.symbol])
        for i, bar in valid
        if final_results[i].status in ("applied", "corrected")
    }
    after, confirmed = confirm_by_bars(after, accepted, outlier_filter)
    payload: dict[str, Any] = {
        "interval": interval,
        "bars": [msgspec.to_builtins(bar_message(bars[i])) for i in recorded],
        "results": [msgspec.to_builtins(final_results[i]) for i in recorded],
        "steps": _steps(builder, after.head.symbols),
        **confirmed_payload(confirmed),
    }
    if counting.now is not None:
        payload["received"] = counting.now
    if newest is not None and newest != state.newest_close:
        payload["newest"] = format_time(newest - after.interval.nanoseconds)
    if ended and after.closed is not None:
        payload["final_until"] = format_time(after.closed)
    if correction is not None:
        payload["correction"] = {"author": correction.author}
    series = _new_series(state, after)
    if series:
        payload["context"] = series
    # Read again by a restart from any history that ends before one of these bars.
    places = set(recorded)
    closes = [bar.ts + after.interval.nanoseconds for i, bar in valid if i in places]
    as_of = max([*closes, *([] if newest is None else [newest])], default=None)
    return after, AppliedBars(response, Entry(BARS, payload, as_of=as_of))


def _rejected(bar: BarUpdate, why: str) -> BarResult:
    return BarResult(bar.symbol, format_time(bar.ts), "rejected", why)


def _steps(builder: StepBuilder, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "ts": format_time(open_),
            "reason": reason,
            "symbols": [symbols[column] for column in np.flatnonzero(present).tolist()],
        }
        for open_, (reason, present) in sorted(builder.counted.items())
    ]


def _new_series(before: LiveMarketState, after: LiveMarketState) -> list[list[Any]]:
    """Exogenous series from quotes of the steps that these bars ended or began."""
    newest = after.head.last_open
    if newest is None or newest == before.head.last_open:
        return []
    series = {open_: row for open_, row in before.quote_series.items() if open_ <= newest}
    return to_records(series, after.head.symbols)


class StepBuilder:
    """Adds bars of rising steps; the market is computed once for all of them.

    Parameters
    ----------
    state:
        The market before.
    counting:
        How steps come to count.
    outlier_filter:
        Filters the bars; None: all are taken as they are.
    correct:
        Whether bars that are late are corrections.
    """

    def __init__(
        self,
        state: LiveMarketState,
        bars: Sequence[BarUpdate],
        counting: Counting,
        outlier_filter: OutlierFilter | None,
        *,
        correct: bool = False,
    ) -> None:
        self.state = state
        self.newest = state.head.last_open
        self.results: list[BarResult | None] = [None] * len(bars)
        self.counted: dict[int, tuple[Reason, Bools]] = {}
        self.beyond_hard_band: set[int] = set()
        self._bars, self._counting, self._outlier_filter, self._correct = (
            bars,
            counting,
            outlier_filter,
            correct,
        )
        self._live = state.live
        self._columns = {symbol: i for i, symbol in enumerate(state.head.symbols)}
        self._steps, self._waiting = dict(state.steps), dict(state.waiting)
        self._received, self._corrections = dict(state.received_bars), dict(state.corrections)
        self._copied_received: set[int] = set()
        self._copied_corrections: set[int] = set()
        self._reasons: dict[int, Reason] = {}
        self._changed: dict[int, set[int]] = {}
        self._pending: dict[tuple[int, int], tuple[int, BarStatus]] = {}
        self._in_waiting_steps: list[tuple[int, int]] = []
        self._last: int | None = None

    def add(
        self, bars: Sequence[tuple[int, BarUpdate]], late: frozenset[int] = frozenset()
    ) -> None:
        """Add the bars of one step, each with its place in the request; those in `late` were
        recorded as late and stay so."""
        open_ = bars[0][1].ts
        refusal = self._no_room(open_, [self._columns[bar.symbol] for _, bar in bars])
        for i, bar in bars:
            if refusal is not None:
                self._set_result(i, "rejected", refusal)
                continue
            column = self._columns[bar.symbol]
            pending = self._pending.get((open_, column))
            if pending is not None:
                if self._bars[pending[0]].values == bar.values:
                    # The first one stays pending: it still gets the verdict of the filter.
                    self._set_result(i, "duplicate")
                    continue
                self._finish_before_replacement(open_, column)
            self._add_bar(i, bar, late=i in late)
        if refusal is not None:
            return
        self._last = open_
        self._count_if_enough(open_)

    def finish(self) -> LiveMarketState:
        """The market after all bars; every result is set then."""
        due = self._counting.due(self._waiting)
        if due is not None and (self.newest is None or due > self.newest):
            self._count(due, "grace")
        self._close()
        self._flush()
        ahead, verdicts = ahead_marks(self.state, self._outlier_filter)
        self.state = replace(self.state, ahead=ahead)
        self._set_filtered_results(verdicts)
        waiting = self.state.waiting
        for i, open_ in self._in_waiting_steps:
            result = self.results[i]
            if open_ in waiting and result is not None:
                text = self._waits(waiting[open_])
                detail = text if result.detail is None else f"{result.detail}; {text}"
                self._set_result(i, result.status, detail)
        self.state = replace(self.state, received_bars=self._recent_bars())
        return self.state

    def _recent_bars(self) -> dict[int, Floats]:
        """The received bars of the kept steps and of the newest `MEMORY_STEPS`."""
        newest, oldest = self.newest, self.state.oldest_kept
        if newest is None or oldest is None:
            return self._received
        since = min(oldest, newest - (MEMORY_STEPS - 1) * self.state.interval.nanoseconds)
        return {open_: bars for open_, bars in self._received.items() if open_ >= since}

    def _add_bar(self, i: int, bar: BarUpdate, *, late: bool) -> None:
        open_, column, values = bar.ts, self._columns[bar.symbol], bar.values
        waits = self.newest is None or open_ > self.newest
        oldest = self.state.oldest_kept
        takes_bars = waits or (oldest is not None and open_ >= oldest)
        step = (self._waiting if waits else self._steps).get(open_)
        known = None if step is None else _bar(step.bars, column)
        final = self.state.closed is not None and open_ <= self.state.closed
        absent = known is None
        if takes_bars and not late and not final and (absent or not self._behind(open_)):
            if _same(known, values):
                self._set_result(i, "duplicate")
                return
            self._put(open_, column, values)
            self._pending[open_, column] = i, "applied" if absent else "corrected"
            if waits:
                self._in_waiting_steps.append((i, open_))
        elif self._correct and takes_bars and not late:
            expected = self._corrections.get(open_)
            if expected is not None and _bar(expected, column) is not None:
                known = expected[column]
            if _same(known, values):
                self._set_result(i, "duplicate")
                return
            bars = self._copy_once(self._corrections, open_, self._copied_corrections)
            bars[column] = values
            self._set_result(i, "corrected", _CORRECTION)
        else:
            received = self._received.get(open_)
            if received is not None and _same(_bar(received, column), values):
                self._set_result(i, "duplicate")
                return
            why = _WAS_LATE if late else _TOO_OLD if not takes_bars else _FINAL if final else _KNOWN
            self._set_result(i, "late", why)
        self._copy_once(self._received, open_, self._copied_received)[column] = values

    def _copy_once(self, bars: dict[int, Floats], open_: int, copied: set[int]) -> Floats:
        """Bars of a step to write to; those of the market itself are never changed in place."""
        if open_ not in copied:
            copied.add(open_)
            known = bars.get(open_)
            bars[open_] = np.full((len(self._live), 5), np.nan) if known is None else known.copy()
        return bars[open_]

    def _put(self, open_: int, column: int, values: BarValues) -> None:
        """Put a bar into its step."""
        steps = self._waiting if self.newest is None or open_ > self.newest else self._steps
        step = steps.get(open_) or Step.empty(len(self._live), self._counting.now)
        if open_ not in self._changed:  # not in place, as in `_copy_once`
            mark = None if step.mark is None else step.mark.copy()
            step = steps[open_] = replace(step, bars=step.bars.copy(), mark=mark)
        step.bars[column] = values
        if step.mark is not None:
            step.mark[column] = np.nan
        self._changed.setdefault(open_, set()).add(column)

    def _behind(self, open_: int) -> bool:
        return self.newest is not None and open_ < self.newest

    def _no_room(self, open_: int, columns: list[int]) -> str | None:
        """Why no further step can wait; None if there is room or the step counts at once."""
        limit = live_steps.KEPT_STEPS
        if not (self.newest is None or open_ > self.newest) or open_ in self._waiting:
            return None
        present = np.zeros(len(self._live), dtype=np.bool_)
        present[columns] = True
        if len(self._waiting) < limit or self._counting.reason(open_, present, self._live):
            return None
        return (
            f"{limit} steps wait already, the first of {format_time(min(self._waiting))}, and no "
            'more are kept; post the bars of the other symbols, or say "final": true'
        )

    def _finish_before_replacement(self, open_: int, column: int) -> None:
        """Set the result of a bar that a later one of the same request replaces.

        A bar of a step that counts is filtered first; a bar of a waiting step is only replaced.
        """
        if self._pending[open_, column][0] not in self._counting.replaced:
            self._count_if_enough(open_)
        if open_ == self.newest:
            self._flush()
        elif not self._behind(open_):
            i, status = self._pending.pop((open_, column))
            self._set_result(i, status, REPLACED)

    def _count_if_enough(self, open_: int) -> None:
        step = self._waiting.get(open_)
        reason = None if step is None else self._counting.reason(open_, step.present, self._live)
        if reason is not None:
            self._count(open_, reason)

    def _count(self, open_: int, reason: Reason) -> None:
        """Let the waiting steps up to `open_` count."""
        self.newest = open_
        for earlier in [o for o in self._waiting if o <= open_]:
            self._steps[earlier] = self._waiting.pop(earlier)
            self._reasons[earlier] = reason

    def _close(self) -> None:
        """Close the steps that are final by the request or by its record."""
        until = self._counting.final_until
        if self._counting.final:
            until = self._last
        if until is not None and (self.state.closed is None or until > self.state.closed):
            self.state = replace(self.state, closed=until)

    def _flush(self) -> None:
        """Compute the market with the bars since, and set the results of those that count."""
        before = self.state.head.last_open
        changed = {o for o in self._changed if self.newest is not None and o <= self.newest}
        changed |= self._reasons.keys()
        if self.newest != before and self._corrections:
            for open_, bars in self._corrections.items():
                step = self._steps.get(open_) or Step.empty(len(self._live))
                self._steps[open_] = step.with_bars(bars)
                self._reasons.setdefault(open_, "correction")
            changed |= self._corrections.keys()
            self._corrections, self._copied_corrections = {}, set()
        for open_ in changed:
            reason = self._reasons.get(open_, "joined")
            self.counted[open_] = reason, self._steps[open_].present
        verdicts: dict[int, Verdicts] = {}
        if self.newest is not None and (changed or self.newest != before):
            first = min(changed, default=self.newest)
            self.state, verdicts = recompute(
                self.state, self._steps, first, self.newest, self._outlier_filter
            )
            self._steps = dict(self.state.steps)
        self.state = replace(
            self.state, waiting=dict(self._waiting), corrections=dict(self._corrections)
        )
        self._set_filtered_results(verdicts)
        self._changed, self._reasons = {}, {}
        self._copied_corrections = set()

    def _set_filtered_results(self, verdicts: Mapping[int, Verdicts]) -> None:
        """Set the results of the bars whose steps were filtered."""
        for (open_, column), (i, status) in list(self._pending.items()):
            if open_ not in verdicts:
                continue
            del self._pending[open_, column]
            verdict = verdicts[open_][column]
            if verdict == SUSPECT:
                self._set_result(i, "suspect", _SUSPECT)
            elif is_rejected(verdicts[open_][column : column + 1])[0]:
                self.beyond_hard_band.add(i)
                self._set_result(i, "rejected", _REJECTED)
            else:
                self._set_result(i, status, _LIMITED if verdict == LIMITED else None)

    def _waits(self, step: Step) -> str:
        present, needed = int(step.present.sum()), self._counting.rule.needed(int(self._live.sum()))
        text = f"its step waits for a quorum: {present} of {needed} bars are there"
        return text if self._counting.now is None else f"{text} until the grace is over"

    def _set_result(self, i: int, status: BarStatus, detail: str | None = None) -> None:
        bar = self._bars[i]
        self.results[i] = BarResult(bar.symbol, format_time(bar.ts), status, detail)


def _bar(bars: Floats, column: int) -> Floats | None:
    """The bar of a symbol; None where there is none."""
    bar: Floats = bars[column]
    return None if math.isnan(bar[CLOSE]) else bar


def _same(bar: Floats | None, values: BarValues) -> bool:
    return bar is not None and tuple(bar.tolist()) == values
