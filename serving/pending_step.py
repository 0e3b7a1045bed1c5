"""One step of the live market: its bars, judged together and replayed on the state before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from market.guarded_bars import RECENT_ROWS
from market.outlier_filter import LIMITED, MISSED, SUSPECT, PriceGuard, filter_bars, is_rejected
from market.panel import CLOSE, CONTEXT_WIDTH, BarPanel
from serving.bar_checks import SoundBar
from serving.market_moment import Floats, MarketMoment
from serving.messages import BarIn, BarResult
from serving.reference_prices import reference_prices

MEMORY_STEPS = RECENT_ROWS
"""For so many steps back a bar that comes again is known as a duplicate."""

_GAP_ROWS = 1_024  # missing steps are advanced in pieces, which bounds memory
BarStatus = Literal["applied", "corrected", "duplicate", "late", "suspect", "rejected"]
_LATE = "a later step has begun: recorded, but what was known stays as it was"
_SUSPECT = (
    "the close is beyond the band of the outlier filter: recorded, and missing until a quoted mark "
    "or the next bar of the symbol confirms it"
)
_REJECTED = (
    "the close is beyond the hard band of the outlier filter: recorded, and missing; correct the "
    "bar where it is wrong"
)
_LIMITED = "the open or an extreme is beyond the band of the outlier filter and was limited to it"


class PendingStep:
    """Bars of one step on their way into the market.

    Parameters
    ----------
    moment:
        The market before these bars.
    open_:
        Of the step.
    guard:
        Parameters of the outlier filter; None where there is none.
    context:
        What the files tell beside the bars of a step that begins; a pending one keeps what it
        has. What quotes tell comes from `moment` and goes before it.
    """

    def __init__(
        self,
        moment: MarketMoment,
        open_: int,
        guard: PriceGuard | None,
        context: Floats | None = None,
    ) -> None:
        newest = moment.head.last_open
        self._open, self._guard = open_, guard
        self._begins = newest is None or open_ > newest
        self._late = not self._begins and open_ != moment.pending
        self._before = begin_step(moment, open_) if self._begins else moment
        self._context = context if self._begins else moment.context
        told = moment.told.get(open_)
        symbols = len(moment.mark)
        self._told = np.full((symbols, 5), np.nan) if told is None else told.copy()
        self._changed = np.zeros(symbols, dtype=bool)
        self._verdicts = np.zeros(symbols, dtype=np.int8)

    def has(self, column: int) -> bool:
        """Whether a bar of the symbol was taken already."""
        return bool(self._changed[column])

    def take(self, bar: SoundBar) -> BarStatus:
        """Take a bar; what the outlier filter says of it comes with `moment`."""
        known = self._told[bar.column]
        if np.array_equal(known, bar.values):
            return "duplicate"
        first = bool(np.isnan(known[CLOSE]))
        self._told[bar.column] = bar.values
        self._changed[bar.column] = True
        if self._late:
            return "late"
        return "applied" if first else "corrected"

    def answer(
        self,
        bars: Sequence[BarIn],
        taken: Sequence[tuple[int, int, BarStatus]],
        results: list[BarResult | None],
    ) -> MarketMoment:
        """The market with these bars, and in `results` what became of those taken."""
        moment = self.moment()
        for i, column, status in taken:
            detail = _LATE if status == "late" else None
            if status in ("applied", "corrected"):
                if self._verdicts[column] == SUSPECT:
                    status, detail = "suspect", _SUSPECT
                elif is_rejected(self._verdicts[column : column + 1])[0]:
                    status, detail = "rejected", _REJECTED
                elif self._verdicts[column] == LIMITED:
                    detail = _LIMITED
            results[i] = BarResult(bars[i].symbol, bars[i].ts, status, detail)
        return moment

    def moment(self) -> MarketMoment:
        """The market with these bars."""
        before = self._before
        if not self._changed.any():
            return before
        newest = self._open if self._begins else before.head.last_open or self._open
        oldest = newest - MEMORY_STEPS * before.interval.nanoseconds
        told = {**before.told, self._open: self._told}
        remembered = {open_: values for open_, values in told.items() if open_ > oldest}
        if self._late:
            return replace(before, told=remembered)
        return self._replayed(remembered)

    def again(self) -> MarketMoment:
        """The market with the bars that the pending step has, told something beside them."""
        return self._replayed(self._before.told)

    def _replayed(self, told: Mapping[int, Floats]) -> MarketMoment:
        before = self._before
        counted, guard = self._told, before.guard_before
        if self._guard is not None:
            guard = guard.copy()
            references = reference_prices(before.posted_context.get(self._open))
            counted, self._verdicts = filter_bars(
                self._told, guard, self._guard, before.interval, references
            )
        head = before.committed.copy()
        row = np.array([self._open], dtype=np.int64)
        context = with_posted(self._context, row, before.posted_context)
        features = head.advance(BarPanel(head.interval, head.symbols, row, counted[None], context))
        close = counted[:, CLOSE]
        marked = np.where(np.isnan(close), before.mark_before, close)
        # A bar that was suspect and is not any more counts, though no other bar came.
        confirmed = before.suspect & ~np.isnan(close)
        return MarketMoment(
            committed=before.committed,
            head=head,
            pending=self._open,
            features=features,
            mark=np.where(self._changed | confirmed, marked, before.mark),
            mark_before=before.mark_before,
            told=told,
            guard=guard,
            guard_before=before.guard_before,
            context=self._context,
            posted_context={o: v for o, v in before.posted_context.items() if o >= self._open},
            quotes=before.quotes,
        )


def begin_step(moment: MarketMoment, open_: int) -> MarketMoment:
    """Commit the pending step, and those between it and `open_` as steps without bars."""
    committed, step = moment.head, moment.interval.nanoseconds
    last = committed.last_open
    if last is not None and open_ > last + step:
        committed = committed.copy()
        for first in range(last + step, open_, _GAP_ROWS * step):
            opens = np.arange(first, min(first + _GAP_ROWS * step, open_), step, dtype=np.int64)
            nothing = np.full((len(opens), len(committed.symbols), 5), np.nan)
            context = with_posted(None, opens, moment.posted_context)
            committed.advance(
                BarPanel(committed.interval, committed.symbols, opens, nothing, context)
            )
    guard = moment.guard
    if last is not None and open_ > last + step:
        guard = guard.copy()
        guard[:, MISSED] += (open_ - last) // step - 1
    return replace(
        moment,
        committed=committed,
        mark_before=moment.mark,
        guard=guard,
        guard_before=guard,
    )


def with_posted(
    context: Floats | None, opens: npt.NDArray[np.int64], posted: Mapping[int, Floats]
) -> Floats | None:
    """The context of some steps with what quotes tell of them in its place."""
    rows = [(t, posted[open_]) for t, open_ in enumerate(opens.tolist()) if open_ in posted]
    if not rows:
        return context
    symbols = len(rows[0][1])
    whole = np.full((len(opens), symbols, CONTEXT_WIDTH), np.nan)
    if context is not None:
        whole[:] = context
    for t, told in rows:
        values = told[:, :CONTEXT_WIDTH]
        whole[t] = np.where(np.isnan(values), whole[t], values)
    return whole
