"""Sound bars of one request on their way into the steps of the live market."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from decisions.messages import BarResult, BarStatus
from market.bars.filtered_bars import RECENT_ROWS
from market.bars.outlier_filter import LIMITED, SUSPECT, PriceGuard, Verdicts, is_rejected
from market.bars.panel import CLOSE
from market.core.clock import format_time
from market.sources.base import BarUpdate, BarValues
from monitoring.market_state import live_steps
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.live_steps import Bools, Counting, Floats, Reason, Step
from monitoring.market_state.step_replay import ahead_marks, recompute

MEMORY_STEPS = RECENT_ROWS
"""For so many steps back a bar that comes again is known as a duplicate, and for all kept ones."""

_ADMIT = 'an admin may post it again with "correct": true'
_KNOWN = f"a later step counts: recorded, but the bar that is there stays; {_ADMIT}"
_CLOSED = f"its step is final: recorded, but what is known stays; {_ADMIT}"
_GONE = (
    "its step is older than the kept ones: recorded, but what is known stays; put it into the "
    "bar files and start from them"
)
_THEN = "late when it was recorded: what was known stays"
_REPLACED = "replaced by a later one of the same request"
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


class BarIntake:
    """Takes in bars of rising steps; the market is computed once for all of them.

    Parameters
    ----------
    moment:
        The market before.
    counting:
        How steps come to count.
    guard:
        Filters the bars; None: all are taken as they are.
    correct:
        Whether bars that are late are corrections.
    """

    def __init__(
        self,
        moment: LiveMarketState,
        bars: Sequence[BarUpdate],
        counting: Counting,
        guard: PriceGuard | None,
        *,
        correct: bool = False,
    ) -> None:
        self.moment = moment
        self.newest = moment.head.last_open
        self.results: list[BarResult | None] = [None] * len(bars)
        self.counted: dict[int, tuple[Reason, Bools]] = {}
        self.beyond_hard_band: set[int] = set()
        self._bars, self._counting, self._guard, self._correct = bars, counting, guard, correct
        self._live = moment.live
        self._columns = {symbol: i for i, symbol in enumerate(moment.head.symbols)}
        self._steps, self._waiting = dict(moment.steps), dict(moment.waiting)
        self._told, self._corrections = dict(moment.told), dict(moment.corrections)
        self._own_told: set[int] = set()
        self._own_corrections: set[int] = set()
        self._reasons: dict[int, Reason] = {}
        self._changed: dict[int, set[int]] = {}
        self._taken: dict[tuple[int, int], tuple[int, BarStatus]] = {}
        self._waited: list[tuple[int, int]] = []
        self._last: int | None = None

    def add(
        self, bars: Sequence[tuple[int, BarUpdate]], late: frozenset[int] = frozenset()
    ) -> None:
        """Take in the bars of one step, each with its place in the request; those in `late` were
        recorded as late and stay so."""
        open_ = bars[0][1].ts
        refused = self._no_room(open_, [self._columns[bar.symbol] for _, bar in bars])
        for i, bar in bars:
            if refused is not None:
                self._answer(i, "rejected", refused)
                continue
            column = self._columns[bar.symbol]
            if (open_, column) in self._taken:
                self._answer_before_again(open_, column)
            self._take(i, bar, late=i in late)
        if refused is not None:
            return
        self._last = open_
        self._count_if_enough(open_)

    def finish(self) -> LiveMarketState:
        """The market after all bars; every result is there then."""
        due = self._counting.due(self._waiting)
        if due is not None and (self.newest is None or due > self.newest):
            self._count(due, "grace")
        self._close()
        self._flush()
        ahead, verdicts = ahead_marks(self.moment, self._guard)
        self.moment = replace(self.moment, ahead=ahead)
        self._answer_taken(verdicts)
        waiting = self.moment.waiting
        for i, open_ in self._waited:
            result = self.results[i]
            if open_ in waiting and result is not None:
                text = self._waits(waiting[open_])
                detail = text if result.detail is None else f"{result.detail}; {text}"
                self._answer(i, result.status, detail)
        self.moment = replace(self.moment, told=self._remembered())
        return self.moment

    def _remembered(self) -> dict[int, Floats]:
        """What was posted of the kept steps and of the newest `MEMORY_STEPS`."""
        newest, oldest = self.newest, self.moment.oldest_kept
        if newest is None or oldest is None:
            return self._told
        since = min(oldest, newest - (MEMORY_STEPS - 1) * self.moment.interval.nanoseconds)
        return {open_: bars for open_, bars in self._told.items() if open_ >= since}

    def _take(self, i: int, bar: BarUpdate, *, late: bool) -> None:
        open_, column, values = bar.ts, self._columns[bar.symbol], bar.values
        waits = self.newest is None or open_ > self.newest
        oldest = self.moment.oldest_kept
        kept = waits or (oldest is not None and open_ >= oldest)
        step = (self._waiting if waits else self._steps).get(open_)
        there = None if step is None else _bar(step.bars, column)
        final = self.moment.closed is not None and open_ <= self.moment.closed
        absent = there is None
        if kept and not late and not final and (absent or not self._behind(open_)):
            if _same(there, values):
                self._answer(i, "duplicate")
                return
            self._put(open_, column, values)
            self._taken[open_, column] = i, "applied" if absent else "corrected"
            if waits:
                self._waited.append((i, open_))
        elif self._correct and kept and not late:
            expected = self._corrections.get(open_)
            if expected is not None and _bar(expected, column) is not None:
                there = expected[column]
            if _same(there, values):
                self._answer(i, "duplicate")
                return
            bars = self._own(self._corrections, open_, self._own_corrections)
            bars[column] = values
            self._answer(i, "corrected", _CORRECTION)
        else:
            told = self._told.get(open_)
            if told is not None and _same(_bar(told, column), values):
                self._answer(i, "duplicate")
                return
            why = _THEN if late else _GONE if not kept else _CLOSED if final else _KNOWN
            self._answer(i, "late", why)
        self._own(self._told, open_, self._own_told)[column] = values

    def _own(self, bars: dict[int, Floats], open_: int, owned: set[int]) -> Floats:
        """Bars of a step to write to: what is in the market is never changed in place."""
        if open_ not in owned:
            owned.add(open_)
            known = bars.get(open_)
            bars[open_] = np.full((len(self._live), 5), np.nan) if known is None else known.copy()
        return bars[open_]

    def _put(self, open_: int, column: int, values: BarValues) -> None:
        """Put a bar into its step."""
        steps = self._waiting if self.newest is None or open_ > self.newest else self._steps
        step = steps.get(open_) or Step.empty(len(self._live), self._counting.now)
        if open_ not in self._changed:  # not in place, as in `_own`
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

    def _answer_before_again(self, open_: int, column: int) -> None:
        """Answer for a bar that comes again in the same request, as it was.

        A bar of a step that counts is filtered first; one of a waiting step is only replaced.
        """
        self._count_if_enough(open_)
        if open_ == self.newest:
            self._flush()
        elif not self._behind(open_):
            i, status = self._taken.pop((open_, column))
            self._answer(i, status, _REPLACED)

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
        """Close the steps that the request, or the record of it, says are final."""
        until = self._counting.final_until
        if self._counting.final:
            until = self._last
        if until is not None and (self.moment.closed is None or until > self.moment.closed):
            self.moment = replace(self.moment, closed=until)

    def _flush(self) -> None:
        """Compute the market with what came since, and answer for the bars of counted steps."""
        before = self.moment.head.last_open
        changed = {o for o in self._changed if self.newest is not None and o <= self.newest}
        changed |= self._reasons.keys()
        if self.newest != before and self._corrections:
            for open_, bars in self._corrections.items():
                step = self._steps.get(open_) or Step.empty(len(self._live))
                self._steps[open_] = step.with_bars(bars)
                self._reasons.setdefault(open_, "correction")
            changed |= self._corrections.keys()
            self._corrections, self._own_corrections = {}, set()
        for open_ in changed:
            reason = self._reasons.get(open_, "joined")
            self.counted[open_] = reason, self._steps[open_].present
        verdicts: dict[int, Verdicts] = {}
        if self.newest is not None and (changed or self.newest != before):
            first = min(changed, default=self.newest)
            self.moment, verdicts = recompute(
                self.moment, self._steps, first, self.newest, self._guard
            )
            self._steps = dict(self.moment.steps)
        self.moment = replace(
            self.moment, waiting=dict(self._waiting), corrections=dict(self._corrections)
        )
        self._answer_taken(verdicts)
        self._changed, self._reasons = {}, {}
        self._own_corrections = set()

    def _answer_taken(self, verdicts: Mapping[int, Verdicts]) -> None:
        """Answer for the bars of the steps that were filtered."""
        for (open_, column), (i, status) in list(self._taken.items()):
            if open_ not in verdicts:
                continue
            del self._taken[open_, column]
            verdict = verdicts[open_][column]
            if verdict == SUSPECT:
                self._answer(i, "suspect", _SUSPECT)
            elif is_rejected(verdicts[open_][column : column + 1])[0]:
                self.beyond_hard_band.add(i)
                self._answer(i, "rejected", _REJECTED)
            else:
                self._answer(i, status, _LIMITED if verdict == LIMITED else None)

    def _waits(self, step: Step) -> str:
        there, needed = int(step.present.sum()), self._counting.rule.needed(int(self._live.sum()))
        text = f"its step waits for a quorum: {there} of {needed} bars are there"
        return text if self._counting.now is None else f"{text} until the grace is over"

    def _answer(self, i: int, status: BarStatus, detail: str | None = None) -> None:
        bar = self._bars[i]
        self.results[i] = BarResult(bar.symbol, format_time(bar.ts), status, detail)


def _bar(bars: Floats, column: int) -> Floats | None:
    """The bar of a symbol; None where there is none."""
    bar: Floats = bars[column]
    return None if math.isnan(bar[CLOSE]) else bar


def _same(bar: Floats | None, values: BarValues) -> bool:
    return bar is not None and tuple(bar.tolist()) == values
