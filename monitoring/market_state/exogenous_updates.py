"""Context that quotes tell: funding, open interest, implied volatility and basis of a step.

A fact belongs to the step that closes at or after the time when it held, as facts from files do
(`market.bars.exogenous_files`). The newest step is computed again with it; facts of later steps
wait for them; older steps stay as they are. The marks that the outlier filter holds bars against
travel with them (`monitoring.market_state.reference_prices`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from market.bars.outlier_filter import PriceGuard
from market.bars.panel import CLOSE, CONTEXT_WIDTH
from market.core.clock import DAY, Interval
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.live_steps import Floats
from monitoring.market_state.reference_prices import POSTED_WIDTH, SPOT_MARK, is_better
from monitoring.market_state.step_replay import ahead_marks, recompute

_Kind = Annotated[int, msgspec.Meta(ge=SPOT_MARK, lt=CONTEXT_WIDTH)]

_WAITING = 7 * DAY
"""Facts older than this before the newest one cannot count any more."""


@dataclass(frozen=True, slots=True)
class ExogenousUpdate:
    """One value of one step: its open, the symbol's column, the column of the context.

    The columns below 0 are those of `monitoring.market_state.reference_prices`.
    """

    open: int
    column: int
    kind: int
    value: float


def step_open(ts: int, interval: Interval) -> int:
    """Open of the step that closes at or after `ts`."""
    step = interval.nanoseconds
    return -(-ts // step) * step - step


def first_open(moment: LiveMarketState) -> int | None:
    """Open of the first step that can still be told something; None before any bar."""
    if moment.pending is not None or moment.head.last_open is None:
        return moment.pending
    return moment.head.last_open + moment.interval.nanoseconds


def apply_exogenous(
    moment: LiveMarketState,
    facts: Iterable[ExogenousUpdate],
    guard: PriceGuard | None,
    *,
    by_record: bool = False,
) -> LiveMarketState:
    """The market told some facts, the last one of a kind counting; what is too late is left out.

    Of reference prices the one counts that `is_better` says; `by_record` the one that is told: it
    was chosen when it was recorded, and a history may know the bar earlier than was known then.
    """
    first = first_open(moment)
    posted = dict(moment.posted_context)
    told: set[int] = set()
    moves_pending = False
    for fact in facts:
        if first is not None and fact.open < first:
            continue
        if fact.open not in told:
            told.add(fact.open)
            before = posted.get(fact.open)
            empty = np.full((len(moment.mark), POSTED_WIDTH), np.nan)
            posted[fact.open] = empty if before is None else before.copy()
        row = posted[fact.open][fact.column]
        better = by_record or fact.kind >= 0
        if not better and not is_better(fact.value, row[fact.kind], _close(moment, fact)):
            continue
        moved = by_record and row[fact.kind] != fact.value
        row[fact.kind] = fact.value
        if fact.open == moment.pending:
            # A reference price moves the step only where it may confirm its bar.
            moves_pending |= moved or fact.kind >= 0 or bool(moment.suspect[fact.column])
    if not told:
        return moment
    oldest = max(posted) - _WAITING
    kept = {o: v for o, v in posted.items() if o >= oldest or o == moment.pending}
    moment = replace(moment, posted_context=kept)
    if moment.pending is not None and moves_pending:
        moment, _ = recompute(moment, moment.steps, moment.pending, moment.pending, guard)
    if not told.isdisjoint(moment.waiting):
        # A bar of a step that waits may be confirmed by what was quoted near its close.
        ahead, _ = ahead_marks(moment, guard)
        moment = replace(moment, ahead=ahead)
    return moment


def _close(moment: LiveMarketState, fact: ExogenousUpdate) -> float:
    """Close of the bar of a fact as it was told; NaN where there is none yet."""
    told = moment.told.get(fact.open)
    return math.nan if told is None else float(told[fact.column, CLOSE])


def to_records(posted: Mapping[int, Floats], symbols: tuple[str, ...]) -> list[list[Any]]:
    """Facts as they are recorded: open, symbol, column of the context and value."""
    return [
        [
            open_,
            symbols[column],
            kind if kind < CONTEXT_WIDTH else kind - POSTED_WIDTH,
            float(posted[open_][column, kind]),
        ]
        for open_ in sorted(posted)
        for column, kind in np.argwhere(~np.isnan(posted[open_])).tolist()
    ]


def from_records(
    content: object, columns: Mapping[str, int], interval: Interval
) -> list[ExogenousUpdate]:
    """The facts that were recorded, but those of symbols or bars that this market does not have.

    Raises
    ------
    msgspec.ValidationError
        Something else was recorded.
    """
    facts = msgspec.convert(content, list[tuple[int, str, _Kind, float]])
    return [
        ExogenousUpdate(open_, columns[symbol], kind, value)
        for open_, symbol, kind, value in facts
        if symbol in columns and open_ % interval.nanoseconds == 0
    ]
