"""Exogenous series from quotes: funding, open interest, implied volatility and basis of a step.

A value belongs to the step that closes at or after its time, as values from files do
(`market.bars.exogenous_files`). The newest step is computed again with it; values of later steps
wait for them; older steps stay as they are.

Quoted marks travel with them as reference prices of bars: the outlier filter compares a close with
them. A mark is a reference of every bar that closes within `SOURCE_INTERVALS` of its time, suspect
or good. Of the marks of one instrument the newest counts until the bar is there, and from then on
the one nearest to its close: so a bar that a mark has confirmed stays confirmed. They are recorded
with the series: a restart filters every bar by the references it had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH
from market.core.arrays import Floats
from market.core.clock import DAY, Interval
from market.quotes.quote_filter import SOURCE_INTERVALS
from monitoring.market_state.recompute import ahead_marks, recompute
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import QUOTE_SERIES_WIDTH, SPOT_MARK

_Kind = Annotated[int, msgspec.Meta(ge=SPOT_MARK, lt=EXOGENOUS_WIDTH)]

_MAX_WAIT = 7 * DAY
"""Values older than this before the newest one cannot count any more."""


@dataclass(frozen=True, slots=True)
class ExogenousUpdate:
    """One value for a step: its open, the symbol's column, the column of the series, the value.

    Kinds are columns of `BarPanel.exogenous`, or `SPOT_MARK` and `PERPETUAL_MARK`.
    """

    open: int
    column: int
    kind: int
    value: float


def step_open(ts: int, interval: Interval) -> int:
    """Open of the step that closes at or after `ts`."""
    step = interval.nanoseconds
    return -(-ts // step) * step - step


def first_open(state: LiveMarketState) -> int | None:
    """Open of the first step that still takes values; None before any bar."""
    if state.pending is not None or state.head.last_open is None:
        return state.pending
    return state.head.last_open + state.interval.nanoseconds


def apply_exogenous(
    state: LiveMarketState,
    updates: Iterable[ExogenousUpdate],
    guard: OutlierFilter | None,
    *,
    by_record: bool = False,
) -> LiveMarketState:
    """The market with some values, of each kind the last one; late values are left out.

    Of reference prices `is_better` says which one counts; `by_record` the updated one does: it was
    chosen when it was recorded, and a history may know the bar earlier than was known then.
    """
    first = first_open(state)
    series = dict(state.quote_series)
    updated: set[int] = set()
    changes_pending = False
    for update in updates:
        if first is not None and update.open < first:
            continue
        if update.open not in updated:
            updated.add(update.open)
            before = series.get(update.open)
            empty = np.full((len(state.mark), QUOTE_SERIES_WIDTH), np.nan)
            series[update.open] = empty if before is None else before.copy()
        row = series[update.open][update.column]
        better = by_record or update.kind >= 0
        if not better and not is_better(update.value, row[update.kind], _close(state, update)):
            continue
        changed = by_record and row[update.kind] != update.value
        row[update.kind] = update.value
        if update.open == state.pending:
            # A reference price changes the step only where it may confirm its bar.
            changes_pending |= changed or update.kind >= 0 or bool(state.suspect[update.column])
    if not updated:
        return state
    oldest = max(series) - _MAX_WAIT
    current = {o: v for o, v in series.items() if o >= oldest or o == state.pending}
    state = replace(state, quote_series=current)
    if state.pending is not None and changes_pending:
        state, _ = recompute(state, state.steps, state.pending, state.pending, guard)
    if not updated.isdisjoint(state.waiting):
        # A bar of a step that waits may be confirmed by what was quoted near its close.
        ahead, _ = ahead_marks(state, guard)
        state = replace(state, ahead=ahead)
    return state


def _close(state: LiveMarketState, update: ExogenousUpdate) -> float:
    """Close of the bar of an update as it was received; NaN without one."""
    bars = state.received_bars.get(update.open)
    return math.nan if bars is None else float(bars[update.column, CLOSE])


def to_records(series: Mapping[int, Floats], symbols: tuple[str, ...]) -> list[list[Any]]:
    """Values as they are recorded: open, symbol, column of the series and value."""
    return [
        [
            open_,
            symbols[column],
            kind if kind < EXOGENOUS_WIDTH else kind - QUOTE_SERIES_WIDTH,
            float(series[open_][column, kind]),
        ]
        for open_ in sorted(series)
        for column, kind in np.argwhere(~np.isnan(series[open_])).tolist()
    ]


def from_records(
    content: object, columns: Mapping[str, int], interval: Interval
) -> list[ExogenousUpdate]:
    """The recorded values, without those of symbols or bars that this market does not have.

    Raises
    ------
    msgspec.ValidationError
        Something else was recorded.
    """
    values = msgspec.convert(content, list[tuple[int, str, _Kind, float]])
    return [
        ExogenousUpdate(open_, columns[symbol], kind, value)
        for open_, symbol, kind, value in values
        if symbol in columns and open_ % interval.nanoseconds == 0
    ]


def steps_near(ts: int, interval: Interval) -> Iterator[int]:
    """Opens of the steps that close within `SOURCE_INTERVALS` of a time, rising."""
    step = interval.nanoseconds
    reach = SOURCE_INTERVALS * step
    first = -(-(ts - reach) // step) * step
    yield from range(first - step, ts + reach - step + 1, step)


def is_better(price: float, known: float, close: float) -> bool:
    """Whether a newer mark replaces the known one: always before the bar has a close, and after it
    only where it is nearer to the close. NaN where there is none."""
    if math.isnan(known) or math.isnan(close):
        return True
    return abs(math.log(price / close)) < abs(math.log(known / close))
