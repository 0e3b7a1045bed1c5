"""Compute the live market through its steps, from a checkpoint on.

One row of the newest step is one call of `MarketState.advance`, older steps are one call of many
rows: the same kernels as for a history, so the result is that of the batch to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from features.state.market_state import MarketFeatures
from market.bars.outlier_filter import MISSED, OutlierFilter, Verdicts, filter_bars
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH, BarPanel
from market.core.arrays import Floats
from market.core.clock import Interval
from monitoring.market_state import steps as live_steps
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import AheadMarks, Checkpoint, Step

_PIECE_ROWS = 1_024  # steps are advanced in pieces, which bounds memory


class _Filter:
    """Filters the bars of step after step, and keeps the marks by the accepted ones."""

    def __init__(
        self,
        filter_state: Floats,
        mark: Floats,
        outlier_filter: OutlierFilter | None,
        interval: Interval,
    ) -> None:
        self.state, self.mark = filter_state.copy(), mark
        self._outlier_filter, self._interval = outlier_filter, interval

    def skip(self, steps: int) -> None:
        """Pass steps without any bar."""
        self.state[:, MISSED] += steps

    def apply(self, step: Step) -> tuple[Floats, Verdicts]:
        """The bars as they count, shape (S, 5), and the verdicts, shape (S,)."""
        bars, verdicts = step.bars, np.zeros(len(step.bars), dtype=np.int8)
        if self._outlier_filter is not None:
            bars, verdicts = filter_bars(
                step.bars, self.state, self._outlier_filter, self._interval, step.reference_prices
            )
        close = bars[:, CLOSE]
        self.mark = np.where(np.isnan(close), self.mark, close)
        if step.mark is not None:
            self.mark = np.where(np.isnan(step.mark), self.mark, step.mark)
        return bars, verdicts


class _Advance:
    """Advances a market through steps; the checkpoint that it starts from is never changed."""

    def __init__(
        self, start: Checkpoint, steps: Mapping[int, Step], outlier_filter: OutlierFilter | None
    ) -> None:
        self._state, self._shared = start.state, True
        self._filter = _Filter(start.filter_state, start.mark, outlier_filter, start.state.interval)
        self._steps = steps
        self.verdicts: dict[int, Verdicts] = {}

    def checkpoint(self) -> Checkpoint:
        """The market at this point."""
        self._shared = True
        return Checkpoint(self._state, self._filter.mark, self._filter.state.copy())

    def through(self, first: int, stop: int) -> MarketFeatures | None:
        """Advance through the steps that open from `first` on and before `stop`.

        Returns the features of the last piece; None where there was no step.
        """
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
        series: Floats | None = None
        for row, open_ in enumerate(opens.tolist()):
            step = self._steps.get(open_)
            if step is None:
                self._filter.skip(1)
                continue
            bars[row], self.verdicts[open_] = self._filter.apply(step)
            exogenous = step.exogenous
            if exogenous is not None:
                if series is None:
                    series = np.full((len(opens), symbols, EXOGENOUS_WIDTH), np.nan)
                series[row] = exogenous
        panel = BarPanel(self._state.interval, self._state.symbols, opens, bars, series)
        return self._state.advance(panel)


def recompute(
    state: LiveMarketState,
    steps: Mapping[int, Step],
    first: int,
    newest: int,
    outlier_filter: OutlierFilter | None,
) -> tuple[LiveMarketState, dict[int, Verdicts]]:
    """The market through `newest`, the newest step that counts.

    Parameters
    ----------
    state:
        The market before.
    steps:
        The steps that count, by their opens; those before the kept ones are left out.
    first:
        Open of the first one that is not as it was in `state`.
    newest:
        Open of the newest one, no older than the newest one of `state`.
    outlier_filter:
        Filters the bars; None: all are taken as they are.

    Returns
    -------
    The market, and the verdicts on the bars of each step that was computed, by their opens.
    """
    steps = _merge_exogenous(state, steps, newest)
    start = _start(state, first)
    at = min(steps) if start.next_open is None else start.next_open
    run = _Advance(start, steps, outlier_filter)
    checkpoints = [c for c in state.checkpoints if c.next_open is None or c.next_open <= at]
    for stop in _grid(checkpoints[-1].next_open, at, newest, state.interval):
        run.through(at, stop)
        at = stop
        checkpoints.append(run.checkpoint())
    run.through(at, newest)
    before = run.checkpoint()
    features = run.through(newest, newest + state.interval.nanoseconds)
    head = run.checkpoint()
    newest_two = tuple(checkpoints[-2:])
    if newest_two[0] is not state.checkpoints[0]:
        oldest = newest_two[0].next_open
        steps = {o: s for o, s in steps.items() if oldest is None or o >= oldest}
    after = replace(
        state,
        committed=before.state,
        head=head.state,
        features=features,
        mark=head.mark,
        mark_before=before.mark,
        filter_state=head.filter_state,
        filter_state_before=before.filter_state,
        checkpoints=newest_two,
        steps=steps,
        quote_series={o: v for o, v in state.quote_series.items() if o >= newest},
    )
    return after, run.verdicts


def ahead_marks(
    state: LiveMarketState, outlier_filter: OutlierFilter | None
) -> tuple[tuple[AheadMarks, ...], dict[int, Verdicts]]:
    """Marks by the bars of the waiting steps, step after step, and the verdicts on these bars."""
    step = state.interval.nanoseconds
    closes = np.zeros(len(state.mark), dtype=np.int64)
    filtered = _Filter(state.filter_state, state.mark, outlier_filter, state.interval)
    last = state.head.last_open
    marks: list[AheadMarks] = []
    verdicts: dict[int, Verdicts] = {}
    for open_ in sorted(state.waiting):
        if last is not None:
            filtered.skip((open_ - last) // step - 1)
        last = open_
        step_ahead = replace(state.waiting[open_], quote_series=state.quote_series.get(open_))
        bars, verdicts[open_] = filtered.apply(step_ahead)
        closes = np.where(np.isnan(bars[:, CLOSE]), closes, open_ + step)
        marks.append(AheadMarks(open_ + step, filtered.mark, closes, filtered.state.copy()))
    return tuple(marks), verdicts


def _merge_exogenous(
    state: LiveMarketState, steps: Mapping[int, Step], newest: int
) -> dict[int, Step]:
    """The steps up to `newest`, with their exogenous series from quotes."""
    merged = dict(steps)
    if newest not in merged:
        merged[newest] = Step.empty(len(state.mark))
    # A market without any bar begins with its first one.
    begin = min(merged) if state.head.last_open is None else 0
    for open_, series in state.quote_series.items():
        if begin <= open_ <= newest:
            step = merged.get(open_) or Step.empty(len(state.mark))
            merged[open_] = replace(step, quote_series=series)
    return merged


def _start(state: LiveMarketState, first: int) -> Checkpoint:
    """The newest known market from before the step `first`."""
    last = state.head.last_open
    if last is not None and first > last:
        return Checkpoint(state.head, state.mark, state.filter_state)
    if first == last:
        return Checkpoint(state.committed, state.mark_before, state.filter_state_before)
    return next(
        c for c in reversed(state.checkpoints) if c.next_open is None or c.next_open <= first
    )


def _grid(last: int | None, at: int, newest: int, interval: Interval) -> range:
    """Opens from `at` to `newest`, after `last`, before which a checkpoint is made: every
    `KEPT_STEPS` steps of the clock, so that they do not depend on how the bars were posted."""
    length = live_steps.KEPT_STEPS * interval.nanoseconds
    first = -(-at // length) * length
    if last is not None and first <= last:
        first += length
    return range(first, newest + 1, length)
