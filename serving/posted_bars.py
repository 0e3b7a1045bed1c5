"""Bars on their way into the market, and what is recorded of them.

With the bars that begin a step goes what quotes told of it and of the steps before it: so a
restart knows the context and the reference prices of a step from its bars alone. With them go
the suspect quotes that they confirm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from ledger.records import Entry
from market.clock import format_time
from market.outlier_filter import PriceGuard
from serving.bar_checks import BarChecks, SoundBar
from serving.filtered_figures import confirmed_payload
from serving.market_moment import MarketMoment
from serving.messages import BarIn, BarResult, BarsResponse
from serving.pending_step import BarStatus, PendingStep
from serving.posted_context import plain
from serving.posted_quotes import confirm_by_bars

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
        What to record; None where the bars told nothing new.
    """

    response: BarsResponse
    entry: Entry | None


def follow_bars(
    moment: MarketMoment,
    interval: str,
    bars: Sequence[BarIn],
    checks: BarChecks,
    guard: PriceGuard | None,
) -> tuple[MarketMoment, PostedBars]:
    """The market with these bars, of any steps in any order; each step is computed once."""
    before = moment
    results: list[BarResult | None] = [None] * len(bars)
    sound: list[tuple[int, SoundBar]] = []
    for i, checked in enumerate(checks.check(interval, bars)):
        if isinstance(checked, str):
            results[i] = BarResult(bars[i].symbol, bars[i].ts, "rejected", checked)
        else:
            sound.append((i, checked))
    sound.sort(key=lambda entry: entry[1].open)
    judged: dict[int, SoundBar] = {}
    for open_, group in groupby(sound, key=lambda entry: entry[1].open):
        too_far = checks.check_ahead(open_, moment.head.last_open)
        if too_far is not None:
            for i, _ in group:
                results[i] = BarResult(bars[i].symbol, bars[i].ts, "rejected", too_far)
            continue
        step = PendingStep(moment, open_, guard)
        taken: list[tuple[int, int, BarStatus]] = []
        for i, bar_ in group:
            if step.has(bar_.column):  # told twice in one post: each is judged as it came
                moment = step.answer(bars, taken, results)
                step, taken = PendingStep(moment, open_, guard), []
            taken.append((i, bar_.column, step.take(bar_)))
            judged[i] = bar_
        moment = step.answer(bars, taken, results)
    found = [result for result in results if result is not None]
    accepted = {
        (bar.open, bar.column)
        for i, bar in judged.items()
        if found[i].status in ("applied", "corrected")
    }
    moment, confirmed = confirm_by_bars(moment, accepted, guard)
    # What the outlier filter rejected is recorded; what no market can have is not.
    kept = [
        i
        for i, result in enumerate(found)
        if result.status in _KEPT or (result.status == "rejected" and i in judged)
    ]
    newest = moment.newest_close
    response = BarsResponse(found, None if newest is None else format_time(newest))
    if not kept:
        return moment, PostedBars(response, None)
    payload: dict[str, Any] = {
        "interval": interval,
        "bars": [msgspec.to_builtins(bars[i]) for i in kept],
        "results": [msgspec.to_builtins(found[i]) for i in kept],
        **confirmed_payload(confirmed),
    }
    context = _context_of(before, moment)
    if context:
        payload["context"] = context
    return moment, PostedBars(response, Entry(BARS, payload, as_of=newest))


def _context_of(before: MarketMoment, moment: MarketMoment) -> list[list[Any]]:
    """What quotes told of the steps that these bars committed or began."""
    newest = moment.head.last_open
    if newest is None or newest == before.head.last_open:
        return []
    taken = {open_: told for open_, told in before.posted_context.items() if open_ <= newest}
    return plain(taken, moment.head.symbols)
