"""Context that quotes tell: funding, open interest, implied volatility and basis of a step.

A fact belongs to the step that closes at or after the time when it held, as facts from files do
(`market.context_files`). The pending step is replayed with it; facts of a step that has not begun
wait for it; a step that is committed stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from market.clock import DAY, Interval
from market.outlier_filter import PriceGuard
from market.panel import CONTEXT_WIDTH
from serving.market_moment import Floats, MarketMoment
from serving.pending_step import PendingStep

_Kind = Annotated[int, msgspec.Meta(ge=0, lt=CONTEXT_WIDTH)]

_WAITING = 7 * DAY
"""Facts older than this before the newest one cannot count any more."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of one step: its open, the symbol's column, the column of the context."""

    open: int
    column: int
    kind: int
    value: float


def step_open(ts: int, interval: Interval) -> int:
    """Open of the step that closes at or after `ts`."""
    step = interval.nanoseconds
    return -(-ts // step) * step - step


def first_open(moment: MarketMoment) -> int | None:
    """Open of the first step that can still be told something; None before any bar."""
    if moment.pending is not None or moment.head.last_open is None:
        return moment.pending
    return moment.head.last_open + moment.interval.nanoseconds


def tell(moment: MarketMoment, facts: Iterable[Fact], guard: PriceGuard | None) -> MarketMoment:
    """The market told some facts, the last one of a kind counting; what is too late is left out."""
    first = first_open(moment)
    posted = dict(moment.posted_context)
    told: set[int] = set()
    for fact in facts:
        if first is not None and fact.open < first:
            continue
        if fact.open not in told:
            told.add(fact.open)
            before = posted.get(fact.open)
            empty = np.full((len(moment.mark), CONTEXT_WIDTH), np.nan)
            posted[fact.open] = empty if before is None else before.copy()
        posted[fact.open][fact.column, fact.kind] = fact.value
    if not told:
        return moment
    oldest = max(posted) - _WAITING
    kept = {o: v for o, v in posted.items() if o >= oldest or o == moment.pending}
    moment = replace(moment, posted_context=kept)
    if moment.pending is None or moment.pending not in told:
        return moment
    return PendingStep(moment, moment.pending, guard).again()


def plain(posted: Mapping[int, Floats], symbols: tuple[str, ...]) -> list[list[Any]]:
    """Facts as they are recorded: open, symbol, column of the context and value."""
    return [
        [open_, symbols[column], kind, float(posted[open_][column, kind])]
        for open_ in sorted(posted)
        for column, kind in np.argwhere(~np.isnan(posted[open_])).tolist()
    ]


def recorded(content: object, columns: Mapping[str, int], interval: Interval) -> list[Fact]:
    """The facts that were recorded, but those of symbols or bars that this market does not have.

    Raises
    ------
    msgspec.ValidationError
        Something else was recorded.
    """
    facts = msgspec.convert(content, list[tuple[int, str, _Kind, float]])
    return [
        Fact(open_, columns[symbol], kind, value)
        for open_, symbol, kind, value in facts
        if symbol in columns and open_ % interval.nanoseconds == 0
    ]
