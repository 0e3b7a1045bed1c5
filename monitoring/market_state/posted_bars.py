"""Bars on their way into the market, and what is recorded of them.

An entry names the steps that come to count or change by its bars, and the symbols that each has
then. With the bars that make a newest step goes what quotes told of it and of the steps before it:
so a restart knows the context and the reference prices of a step from its bars alone. With them go
the suspect quotes that they confirm.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from decisions.messages import BarResult, BarsResponse
from ledger.records import Entry
from market.bars.outlier_filter import PriceGuard
from market.core.clock import format_time
from market.sources.base import BarUpdate
from market.sources.http import bar_message
from monitoring.market_state.bar_checks import BarChecks
from monitoring.market_state.bar_intake import BarIntake
from monitoring.market_state.exogenous_updates import to_records
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.live_steps import Counting
from monitoring.quotes.filtered_figures import confirmed_payload
from monitoring.quotes.posted_quotes import confirm_by_bars

BARS = "bars"
"""Kind of the ledger entries that hold posted bars."""

_KEPT = ("applied", "corrected", "suspect", "late")


@dataclass(frozen=True, slots=True)
class PostedBars:
    """What became of posted bars.

    Attributes
    ----------
    response:
        The answer.
    entry:
        What to record; None where the bars told nothing new and no step came to count.
    """

    response: BarsResponse
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Correction:
    """That bars which are late are corrections, and who says so."""

    author: str


def apply_bars(
    moment: LiveMarketState,
    interval: str,
    bars: Sequence[BarUpdate],
    checks: BarChecks,
    guard: PriceGuard | None,
    counting: Counting,
    *,
    correction: Correction | None = None,
    late: Collection[int] = (),
) -> tuple[LiveMarketState, PostedBars]:
    """The market with these bars, of any steps in any order; each step is computed once.

    Parameters
    ----------
    moment:
        The market before.
    interval:
        Name of their interval.
    bars:
        The bars; none where only a grace is over.
    checks:
        What they are held against.
    guard:
        Filters them; None: all are taken as they are.
    counting:
        How steps come to count.
    correction:
        Given where bars that are late are corrections.
    late:
        Places of bars that were recorded as late and stay so.
    """
    intake = BarIntake(moment, bars, counting, guard, correct=correction is not None)
    results = intake.results
    sound: list[tuple[int, BarUpdate]] = []
    for i, why in enumerate(checks.check(interval, bars) if bars else ()):
        if why is None:
            sound.append((i, bars[i]))
        else:
            results[i] = _rejected(bars[i], why)
    sound.sort(key=lambda entry: entry[1].ts)
    stay = frozenset(late)
    for open_, group in groupby(sound, key=lambda entry: entry[1].ts):
        too_far = checks.check_ahead(open_, intake.newest)
        if too_far is None:
            intake.add(list(group), stay)
            continue
        for i, _ in group:
            results[i] = _rejected(bars[i], too_far)
    after = intake.finish()
    found = [result for result in results if result is not None]
    # What the outlier filter rejected is recorded; what no market can have is not.
    kept = [
        i
        for i, result in enumerate(found)
        if result.status in _KEPT or i in intake.beyond_hard_band
    ]
    ended = after.closed != moment.closed
    if not kept and not ended and not intake.counted and after.newest_close == moment.newest_close:
        after = moment
    newest = after.newest_close
    response = BarsResponse(found, None if newest is None else format_time(newest))
    if after is moment:
        return moment, PostedBars(response, None)
    accepted = {
        (bar.ts, checks.columns[bar.symbol])
        for i, bar in sound
        if found[i].status in ("applied", "corrected")
    }
    after, confirmed = confirm_by_bars(after, accepted, guard)
    payload: dict[str, Any] = {
        "interval": interval,
        "bars": [msgspec.to_builtins(bar_message(bars[i])) for i in kept],
        "results": [msgspec.to_builtins(found[i]) for i in kept],
        "steps": _steps(intake, after.head.symbols),
        **confirmed_payload(confirmed),
    }
    if counting.now is not None:
        payload["received"] = counting.now
    if newest is not None and newest != moment.newest_close:
        payload["newest"] = format_time(newest - after.interval.nanoseconds)
    if ended and after.closed is not None:
        payload["final_until"] = format_time(after.closed)
    if correction is not None:
        payload["correction"] = {"author": correction.author}
    context = _context_of(moment, after)
    if context:
        payload["context"] = context
    # Found again by a restart from any history that ends before one of these bars.
    recorded = set(kept)
    closes = [bar.ts + after.interval.nanoseconds for i, bar in sound if i in recorded]
    as_of = max([*closes, *([] if newest is None else [newest])], default=None)
    return after, PostedBars(response, Entry(BARS, payload, as_of=as_of))


def _rejected(bar: BarUpdate, why: str) -> BarResult:
    return BarResult(bar.symbol, format_time(bar.ts), "rejected", why)


def _steps(intake: BarIntake, symbols: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "ts": format_time(open_),
            "reason": reason,
            "symbols": [symbols[column] for column in np.flatnonzero(present).tolist()],
        }
        for open_, (reason, present) in sorted(intake.counted.items())
    ]


def _context_of(before: LiveMarketState, after: LiveMarketState) -> list[list[Any]]:
    """What quotes told of the steps that these bars ended or began."""
    newest = after.head.last_open
    if newest is None or newest == before.head.last_open:
        return []
    taken = {open_: told for open_, told in before.posted_context.items() if open_ <= newest}
    return to_records(taken, after.head.symbols)
