"""Quotes on their way into the market: each figure by its own time, and the context they tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from ledger.records import Entry
from market.clock import format_time
from market.outlier_filter import PriceGuard
from market.panel import BASIS
from market.told_quotes import QuoteIntake, Status, ToldFigure
from serving.market_moment import MarketMoment
from serving.posted_context import Fact, first_open, step_open, tell
from serving.posted_surface import surface_facts
from serving.quote_checks import QuoteChecks, SoundQuote
from serving.quote_messages import MAX_INSTRUMENTS, QuoteIn, QuoteResult, QuotesResponse

QUOTES = "quotes"
"""Kind of the ledger entries that hold posted quotes."""

_LATE = "newer figures are known: recorded, but what was known stays as it was"
_NO_FORWARD = "the expiry has no forward yet: its options cannot be valued before it has one"
_GONE_BY = "its bar has gone by: it counts as a quote and no more as context of a bar"
_FULL = (
    f"{MAX_INSTRUMENTS} instruments and expiries are quoted, and no more are taken; what expires "
    "makes room"
)


@dataclass(frozen=True, slots=True)
class PostedQuotes:
    """What became of posted quotes.

    Attributes
    ----------
    response:
        The answer.
    entry:
        What to record; None where the quotes told nothing new.
    count:
        How many quotes it holds.
    """

    response: QuotesResponse
    entry: Entry | None
    count: int


def follow_quotes(
    moment: MarketMoment,
    quotes: Sequence[QuoteIn],
    checks: QuoteChecks,
    guard: PriceGuard | None,
) -> tuple[MarketMoment, PostedQuotes]:
    """The market told these quotes in their order, and what became of them."""
    intake = QuoteIntake(moment.quotes)
    told = _Told(moment, intake)
    results = [told.take(quote, checks) for quote in quotes]
    moment = replace(moment, quotes=intake.told(checks.now))
    columns = {symbol: i for i, symbol in enumerate(moment.head.symbols)}
    surfaces = surface_facts(moment.quotes, told.applied, moment.interval, columns)
    moment = tell(moment, [*told.facts, *surfaces], guard)
    newest = moment.newest_known
    response = QuotesResponse(results, None if newest is None else format_time(newest))
    kept = [i for i, result in enumerate(results) if result.status in ("applied", "late")]
    if not kept:
        return moment, PostedQuotes(response, None, 0)
    payload = {
        "quotes": [
            msgspec.to_builtins(msgspec.structs.replace(quotes[i], ts=results[i].ts)) for i in kept
        ],
        "results": [msgspec.to_builtins(results[i]) for i in kept],
    }
    return moment, PostedQuotes(response, Entry(QUOTES, payload, as_of=newest), len(kept))


class _Told:
    """Takes quotes one by one and gathers the facts for bars."""

    def __init__(self, moment: MarketMoment, intake: QuoteIntake) -> None:
        self._interval = moment.interval
        self._first = first_open(moment)
        self._intake = intake
        self.facts: list[Fact] = []
        self.applied: list[ToldFigure] = []

    def take(self, quote: QuoteIn, checks: QuoteChecks) -> QuoteResult:
        """What became of a quote."""
        sound = checks.check(quote)
        ts = quote.ts or format_time(checks.now)
        if isinstance(sound, str):
            return QuoteResult(quote.instrument, ts, "rejected", sound)
        new = {
            figure.instrument for figure in sound.figures if figure.instrument not in self._intake
        }
        if len(self._intake) + len(new) > MAX_INSTRUMENTS:
            return QuoteResult(quote.instrument, ts, "rejected", _FULL)
        found = [(figure, self._intake.take(figure)) for figure in sound.figures]
        applied = [figure for figure, status in found if status == "applied"]
        late = [figure.figure for figure, status in found if status == "late"]
        self.applied += applied
        status: Status = "applied" if applied else "late" if late else "duplicate"
        notes = []
        if status == "late":
            notes.append(_LATE)
        elif late:
            notes.append(f"{', '.join(late)} stays as it was: newer is known")
        if any(self._without_forward(figure) for figure in applied):
            notes.append(_NO_FORWARD)
        facts = self._facts(sound, applied)
        if self._first is not None and any(fact.open < self._first for fact in facts):
            notes.append(_GONE_BY)
        self.facts += facts
        return QuoteResult(quote.instrument, ts, status, "; ".join(notes) or None)

    def _without_forward(self, figure: ToldFigure) -> bool:
        surface = figure.figure in ("svi", "vols")
        return surface and self._intake.newest(figure.instrument, "forward") is None

    def _facts(self, sound: SoundQuote, applied: Sequence[ToldFigure]) -> list[Fact]:
        if sound.column is None:
            return []
        open_ = step_open(sound.ts, self._interval)
        facts = [
            Fact(open_, sound.column, kind, figure.value[0])
            for figure, kind in sound.context()
            if figure in applied
        ]
        if any(figure.figure == "mark" for figure in applied):
            basis = self._basis(sound.figures[0].instrument.removesuffix("-PERP"), open_)
            if basis is not None:
                facts.append(Fact(open_, sound.column, BASIS, basis))
        return facts

    def _basis(self, symbol: str, open_: int) -> float | None:
        """Log of perpetual over spot, where both were quoted in one step."""
        marks = [self._mark(name, open_) for name in (f"{symbol}-PERP", symbol)]
        if marks[0] is None or marks[1] is None:
            return None
        return math.log(marks[0] / marks[1])

    def _mark(self, instrument: str, open_: int) -> float | None:
        told = self._intake.newest(instrument, "mark")
        if told is None or step_open(told.ts, self._interval) != open_:
            return None
        return told.value[0]
