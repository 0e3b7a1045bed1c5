"""Compute the live market through its steps, from a kept state on.

One row of the newest step is one call of `MarketState.advance`, older steps are one call of many
rows: the same kernels as for a history, so the result is that of the batch to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from features.state.market_state import MarketFeatures
from market.bars.outlier_filter import MISSED, PriceGuard, Verdicts, filter_bars
from market.bars.panel import CLOSE, CONTEXT_WIDTH, BarPanel
from market.core.clock import Interval
from monitoring.market_state import live_steps
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.live_steps import AheadMarks, Checkpoint, Floats, Step
from monitoring.market_state.reference_prices import reference_prices

_PIECE_ROWS = 1_024  # steps are advanced in pieces, which bounds memory


class _Filter:
    """Filters the bars of step after step and keeps the marks by what was accepted."""

    def __init__(
        self, guard_state: Floats, mark: Floats, guard: PriceGuard | None, interval: Interval
    ) -> None:
        self.state, self.mark = guard_state.copy(), mark
        self._guard, self._interval = guard, interval

    def skip(self, steps: int) -> None:
        """Pass steps without any bar."""
        self.state[:, MISSED] += steps

    def apply(self, step: Step) -> tuple[Floats, Verdicts]:
        """The bars as they count, shape (S, 5), and the verdicts, shape (S,)."""
        bars, verdicts = step.bars, np.zeros(len(step.bars), dtype=np.int8)
        if self._guard is not None:
            references = reference_prices(step.posted)
            bars, verdicts = filter_bars(
                step.bars, self.state, self._guard, self._interval, references
            )
        close = bars[:, CLOSE]
        self.mark = np.where(np.isnan(close), self.mark, close)
        if step.mark is not None:
            self.mark = np.where(np.isnan(step.mark), self.mark, step.mark)
        return bars, verdicts


class _Replay:
    """Moves a market through steps; the checkpoint that it starts from is never changed."""

    def __init__(
        self, start: Checkpoint, steps: Mapping[int, Step], guard: PriceGuard | None
    ) -> None:
        self._state, self._shared = start.state, True
        self._filter = _Filter(start.guard, start.mark, guard, start.state.interval)
        self._steps = steps
        self.verdicts: dict[int, Verdicts] = {}

    def checkpoint(self) -> Checkpoint:
        """The market as it stands."""
        self._shared = True
        return Checkpoint(self._state, self._filter.mark, self._filter.state.copy())

    def through(self, first: int, stop: int) -> MarketFeatures | None:
        """Move through the steps that open from `first` on and before `stop`; features of the
        last piece, None where there was no step."""
        features, step = None, self._state.interval.nanoseconds
        for begin in range(first, stop, _PIECE_ROWS * step):
            opens = np.arange(begin, min(begin + _PIECE_ROWS * step, stop), step, dtype=np.int64)
            features = self._advance(opens)
        return features

    def _advance(self, opens: np.ndarray[tuple[int], np.dtype[np.int64]]) -> MarketFeatures:
        if self._shared:
            self._state, self._shared = self._state.copy(), False
        symbols = len(self._state.symbols)
        bars = np.full((len(opens), symbols, 5), np.nan)
        context: Floats | None = None
        for row, open_ in enumerate(opens.tolist()):
            step = self._steps.get(open_)
            if step is None:
                self._filter.skip(1)
                continue
            bars[row], self.verdicts[open_] = self._filter.apply(step)
            exogenous = step.exogenous
            if exogenous is not None:
                if context is None:
                    context = np.full((len(opens), symbols, CONTEXT_WIDTH), np.nan)
                context[row] = exogenous
        panel = BarPanel(self._state.interval, self._state.symbols, opens, bars, context)
        return self._state.advance(panel)


def recompute(
    moment: LiveMarketState,
    steps: Mapping[int, Step],
    first: int,
    newest: int,
    guard: PriceGuard | None,
) -> tuple[LiveMarketState, dict[int, Verdicts]]:
    """The market through `newest`, the newest step that counts.

    Parameters
    ----------
    moment:
        The market before.
    steps:
        The steps that count, by their opens; those before the kept ones are left out.
    first:
        Open of the first one that is not as it was in `moment`.
    newest:
        Open of the newest one, no older than the newest one of `moment`.
    guard:
        Filters the bars; None: all are taken as they are.

    Returns
    -------
    The market, and the verdicts on the bars of each step that was computed, by their opens.
    """
    steps = _with_posted(moment, steps, newest)
    start = _start(moment, first)
    at = min(steps) if start.next_open is None else start.next_open
    replay = _Replay(start, steps, guard)
    checkpoints = [c for c in moment.checkpoints if c.next_open is None or c.next_open <= at]
    for stop in _grid(checkpoints[-1].next_open, at, newest, moment.interval):
        replay.through(at, stop)
        at = stop
        checkpoints.append(replay.checkpoint())
    replay.through(at, newest)
    before = replay.checkpoint()
    features = replay.through(newest, newest + moment.interval.nanoseconds)
    head = replay.checkpoint()
    kept = tuple(checkpoints[-2:])
    if kept[0] is not moment.checkpoints[0]:
        oldest = kept[0].next_open
        steps = {o: s for o, s in steps.items() if oldest is None or o >= oldest}
    after = replace(
        moment,
        committed=before.state,
        head=head.state,
        features=features,
        mark=head.mark,
        mark_before=before.mark,
        guard=head.guard,
        guard_before=before.guard,
        checkpoints=kept,
        steps=steps,
        posted_context={o: v for o, v in moment.posted_context.items() if o >= newest},
    )
    return after, replay.verdicts


def ahead_marks(
    moment: LiveMarketState, guard: PriceGuard | None
) -> tuple[tuple[AheadMarks, ...], dict[int, Verdicts]]:
    """Marks by the bars of the waiting steps, step after step, and the verdicts on these bars."""
    step = moment.interval.nanoseconds
    closes = np.zeros(len(moment.mark), dtype=np.int64)
    filtered = _Filter(moment.guard, moment.mark, guard, moment.interval)
    last = moment.head.last_open
    found: list[AheadMarks] = []
    verdicts: dict[int, Verdicts] = {}
    for open_ in sorted(moment.waiting):
        if last is not None:
            filtered.skip((open_ - last) // step - 1)
        last = open_
        posted = moment.posted_context.get(open_)
        bars, verdicts[open_] = filtered.apply(replace(moment.waiting[open_], posted=posted))
        closes = np.where(np.isnan(bars[:, CLOSE]), closes, open_ + step)
        found.append(AheadMarks(open_ + step, filtered.mark, closes, filtered.state.copy()))
    return tuple(found), verdicts


def _with_posted(
    moment: LiveMarketState, steps: Mapping[int, Step], newest: int
) -> dict[int, Step]:
    """The steps up to `newest` with what quotes told of them."""
    found = dict(steps)
    if newest not in found:
        found[newest] = Step.empty(len(moment.mark))
    # A market without any bar begins with its first one.
    begin = min(found) if moment.head.last_open is None else 0
    for open_, posted in moment.posted_context.items():
        if begin <= open_ <= newest:
            found[open_] = replace(found.get(open_) or Step.empty(len(moment.mark)), posted=posted)
    return found


def _start(moment: LiveMarketState, first: int) -> Checkpoint:
    """The newest market that is kept from before the step `first`."""
    last = moment.head.last_open
    if last is not None and first > last:
        return Checkpoint(moment.head, moment.mark, moment.guard)
    if first == last:
        return Checkpoint(moment.committed, moment.mark_before, moment.guard_before)
    return next(
        c for c in reversed(moment.checkpoints) if c.next_open is None or c.next_open <= first
    )


def _grid(last: int | None, at: int, newest: int, interval: Interval) -> range:
    """Ints from `at` to `newest` before which the market is kept, those after `last`: every
    `KEPT_STEPS` steps of the clock, so that they do not depend on how the bars were posted."""
    length = live_steps.KEPT_STEPS * interval.nanoseconds
    first = -(-at // length) * length
    if last is not None and first <= last:
        first += length
    return range(first, newest + 1, length)
