"""Quotes on their way into the market: each figure by its own time, and the context they tell.

Marks, forwards, prices of cash assets and vols of options pass the outlier filter
(`market.quotes.quote_filter`). What it said is recorded with the quotes: a restart and a batch job
take every figure as it was taken.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from ledger.records import Entry
from market.bars.outlier_filter import PriceGuard
from market.bars.panel import BASIS, CLOSE
from market.core.clock import format_time
from market.quotes.quote_filter import TimedPrice
from market.quotes.quote_store import UNCONFIRMED, QuoteField, QuoteStoreBuilder, Status
from market.sources.base import QuoteUpdate
from market.sources.http import quote_message
from monitoring.market_state.exogenous_updates import (
    ExogenousUpdate,
    apply_exogenous,
    first_open,
    step_open,
)
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.reference_prices import PERPETUAL_MARK, SPOT_MARK, steps_near
from monitoring.quotes.filtered_figures import FilteredFigures
from monitoring.quotes.messages import MAX_INSTRUMENTS, QuoteResult, QuotesResponse
from monitoring.quotes.posted_surface import surface_facts
from monitoring.quotes.quote_checks import EXOGENOUS_COLUMNS, QuoteChecks
from monitoring.quotes.quote_references import QuoteReferences

QUOTES = "quotes"
"""Kind of the ledger entries that hold posted quotes."""

_LATE = "newer figures are known: recorded, but what was known stays as it was"
_NO_FORWARD = "the expiry has no forward yet: its options cannot be valued before it has one"
_GONE_BY = "its bar has gone by: it counts as a quote and no more as context of a bar"
_FULL = (
    f"{MAX_INSTRUMENTS} instruments and expiries are quoted, and no more are taken; what expires "
    "makes room"
)
_KEPT = ("applied", "late", "suspect")


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


def apply_quotes(
    moment: LiveMarketState,
    quotes: Sequence[QuoteUpdate],
    checks: QuoteChecks,
    guard: PriceGuard | None,
    recorded: FilteredFigures | None = None,
) -> tuple[LiveMarketState, PostedQuotes]:
    """The market told these quotes in their order, and what became of them.

    Parameters
    ----------
    moment:
        The market before them.
    quotes, checks:
        The quotes, and what they are held against.
    guard:
        Parameters of the outlier filter; None takes prices as they are told.
    recorded:
        What the filter said when they were recorded: it is not asked again.
    """
    taking = _Taking(moment, guard, recorded)
    quotes = [quote._replace(ts=checks.now) if quote.ts is None else quote for quote in quotes]
    results = [taking.take(quote, checks, i) for i, quote in enumerate(quotes)]
    moment = taking.finish(checks.now)
    results = [taking.settled(i, result) for i, result in enumerate(results)]
    newest = moment.newest_known
    response = QuotesResponse(results, None if newest is None else format_time(newest))
    kept = [i for i, result in enumerate(results) if result.status in _KEPT]
    if not kept:
        return moment, PostedQuotes(response, None, 0)
    payload = {
        "quotes": [msgspec.to_builtins(quote_message(quotes[i])) for i in kept],
        "results": [msgspec.to_builtins(results[i]) for i in kept],
        **FilteredFigures(taking.suspects, taking.confirmed).payload(),
    }
    return moment, PostedQuotes(response, Entry(QUOTES, payload, as_of=newest), len(kept))


def confirm_by_bars(
    moment: LiveMarketState, bars: Collection[tuple[int, int]], guard: PriceGuard | None
) -> tuple[LiveMarketState, list[QuoteField]]:
    """Confirm suspect quotes by bars that were accepted.

    Parameters
    ----------
    moment:
        The market with the bars.
    bars:
        Open and column of each.
    guard:
        Parameters of the outlier filter; None: no quote is suspect.

    Returns
    -------
    The market after it, and the quoted figures that count now.
    """
    if guard is None or not moment.quotes.suspects:
        return moment, []
    taking = _Taking(moment, guard, None)
    for open_, column in sorted(bars):
        taking.confirm_by_bar(open_, column)
    # The time does not matter: what is over was dropped when quotes came.
    return taking.finish(0), taking.confirmed


class _Taking:
    """Takes quotes one by one and gathers the facts for bars."""

    def __init__(
        self, moment: LiveMarketState, guard: PriceGuard | None, recorded: FilteredFigures | None
    ) -> None:
        self._moment = moment
        self._intake = QuoteStoreBuilder(moment.quotes)
        self._columns = {symbol: i for i, symbol in enumerate(moment.head.symbols)}
        self._first = first_open(moment)
        self._guard = guard
        self._recorded = recorded
        suspects = () if recorded is None else recorded.suspects
        self._recorded_suspects = {figure: figure for figure in suspects}
        self._facts: list[ExogenousUpdate] = []
        self._applied: list[QuoteField] = []
        self._suspect_at: dict[int, list[QuoteField]] = {}
        self.suspects: list[QuoteField] = []
        self.confirmed: list[QuoteField] = []

    def take(self, quote: QuoteUpdate, checks: QuoteChecks, index: int) -> QuoteResult:
        """What became of a quote, so far; see `settled`."""
        fields = checks.check(quote)
        ts = format_time(checks.now if quote.ts is None else quote.ts)
        if isinstance(fields, str):
            return QuoteResult(quote.instrument, ts, "rejected", fields)
        cash = quote.instrument in checks.cash_assets
        column = None if cash else self._columns.get(quote.instrument.removesuffix("-PERP"))
        new = {figure.instrument for figure in fields if figure.instrument not in self._intake}
        if len(self._intake) + len(new) > MAX_INSTRUMENTS:
            return QuoteResult(quote.instrument, ts, "rejected", _FULL)
        figures: list[QuoteField] = []
        notes: list[str] = []
        for figure in fields:
            filtered, status, detail = self._filter(figure, column, figures)
            if status == "rejected":
                detail = f"{figure.figure} {detail}"
                return QuoteResult(quote.instrument, ts, "rejected", detail)
            figures.append(filtered)
            notes += [f"{figure.figure} {detail}"] if detail else []
        found = [(figure, self._intake.take(figure)) for figure in figures]
        good = [figure for figure, status in found if status == "applied" and not figure.suspect]
        late = [figure.figure for figure, status in found if status == "late"]
        suspect = [figure for figure, status in found if status == "applied" and figure.suspect]
        self._applied += good
        status_: Status = "applied" if good else "late" if late else "duplicate"
        if late and not good and not suspect:
            notes.append(_LATE)
        elif late:
            notes.append(f"{', '.join(late)} stays as it was: newer is known")
        if any(self._without_forward(figure) for figure in good):
            notes.append(_NO_FORWARD)
        facts = self._context_facts(quote.instrument, column, good)
        if self._first is not None and any(fact.open < self._first for fact in facts):
            notes.append(_GONE_BY)
        self._facts += facts
        if suspect:
            self._suspect_at[index] = suspect
            self.suspects += suspect
        notes += self._confirm(column, [*good, *suspect])
        return QuoteResult(
            quote.instrument, ts, "suspect" if suspect else status_, "; ".join(notes) or None
        )

    def settled(self, index: int, result: QuoteResult) -> QuoteResult:
        """What became of a quote once all of them were taken: it may be confirmed by then."""
        suspect = self._suspect_at.get(index)
        if suspect is None or not all(figure in self.confirmed for figure in suspect):
            return result
        named = " and ".join(figure.figure for figure in suspect)
        return msgspec.structs.replace(
            result, status="applied", detail=f"{named} confirmed by a second source"
        )

    def finish(self, now: int) -> LiveMarketState:
        """The market told all that was taken."""
        if self._recorded is not None:
            for figure in self._recorded.confirmed:
                self._count(self._intake.confirm(figure, figure.confirmed))
        moment = replace(self._moment, quotes=self._intake.told(now))
        surfaces = surface_facts(moment.quotes, self._applied, moment.interval, self._columns)
        return apply_exogenous(moment, [*self._facts, *surfaces], self._guard)

    def confirm_by_bar(self, open_: int, column: int) -> None:
        """Confirm what lies near the close of a bar that was accepted."""
        told = self._moment.told.get(open_)
        if told is not None:
            ts = open_ + self._moment.interval.nanoseconds
            self._confirm_near(column, TimedPrice(ts, float(told[column, CLOSE])))

    def _filter(
        self, figure: QuoteField, column: int | None, beside: Sequence[QuoteField]
    ) -> tuple[QuoteField, str, str]:
        """The figure as it is taken, what the filter says of it and why."""
        if self._intake.status(figure) != "applied":
            return figure, "good", ""
        if self._recorded is not None:
            known = self._recorded_suspects.get(figure)
            return (figure, "good", "") if known is None else (known, "suspect", "")
        references = self._references()
        if references is None:
            return figure, "good", ""
        verdict = references.verdict(figure, column, beside)
        if verdict.status == "suspect":
            figure = replace(figure, confirmed=UNCONFIRMED, since=verdict.since)
        return figure, verdict.status, verdict.detail

    def _references(self) -> QuoteReferences | None:
        if self._guard is None:
            return None
        return QuoteReferences(self._moment, self._intake, self._guard, self._columns)

    def _confirm(self, column: int | None, figures: Sequence[QuoteField]) -> list[str]:
        """Confirm other quotes and bars by new prices; what to say of it."""
        notes: list[str] = []
        for figure in figures:
            if figure.figure != "mark" or column is None:
                continue
            if not figure.suspect:
                price = TimedPrice(figure.ts, figure.value[0])
                confirmed = self._confirm_near(column, price)
                notes += [f"confirms {f.instrument} of {format_time(f.ts)}" for f in confirmed]
            notes += self._tell_reference(column, figure)
        references = self._references()
        if references is not None and self._recorded is None:
            for counts in references.vols.confirm_by(figures):
                self._count(counts)
                if counts not in figures:
                    notes.append(f"confirms {counts.instrument} of {format_time(counts.ts)}")
        return notes

    def _confirm_near(self, column: int, price: TimedPrice) -> list[QuoteField]:
        references = self._references()
        if references is None or self._recorded is not None:
            return []
        confirmed = references.confirm_near(column, price)
        for figure in confirmed:
            self._count(figure)
        return confirmed

    def _count(self, figure: QuoteField | None) -> None:
        """A suspect figure that counts from now on."""
        if figure is None:
            return
        self.confirmed.append(figure)
        self._applied.append(figure)
        symbol = figure.instrument.removesuffix("-PERP")
        column = self._columns.get(symbol)
        if figure.figure == "mark" and column is not None:
            self._facts += self._basis_facts(symbol, column, figure.ts)

    def _tell_reference(self, column: int, figure: QuoteField) -> list[str]:
        """A mark as reference price of the bars near it; at once where a bar waits for it."""
        if self._guard is None:
            return []
        kind = PERPETUAL_MARK if figure.instrument.endswith("-PERP") else SPOT_MARK
        facts = [
            ExogenousUpdate(open_, column, kind, figure.value[0])
            for open_ in steps_near(figure.ts, self._moment.interval)
        ]
        waiting = self._suspect_close(column)
        if waiting is None:
            self._facts += facts
            return []
        self._moment = apply_exogenous(self._moment, facts, self._guard)
        if self._suspect_close(column) is not None:
            return []
        self.confirm_by_bar(waiting - self._moment.interval.nanoseconds, column)
        symbol = self._moment.head.symbols[column]
        return [f"confirms the bar of {symbol} that closed at {format_time(waiting)}"]

    def _suspect_close(self, column: int) -> int | None:
        """When the suspect bar of a symbol closed; None where none waits."""
        found = self._moment.suspect_bars
        if found is None or math.isnan(found[0][column]):
            return None
        return int(found[1][column])

    def _without_forward(self, figure: QuoteField) -> bool:
        surface = figure.figure in ("svi", "vols")
        return surface and self._intake.in_force(figure.instrument, "forward") is None

    def _context_facts(
        self, instrument: str, column: int | None, applied: Sequence[QuoteField]
    ) -> list[ExogenousUpdate]:
        if column is None or not applied:
            return []
        ts = applied[0].ts
        open_ = step_open(ts, self._moment.interval)
        facts = [
            ExogenousUpdate(open_, column, EXOGENOUS_COLUMNS[figure.figure], figure.value[0])
            for figure in applied
            if figure.figure in EXOGENOUS_COLUMNS
        ]
        if any(figure.figure == "mark" for figure in applied):
            symbol = instrument.removesuffix("-PERP")
            facts += self._basis_facts(symbol, column, ts)
        return facts

    def _basis_facts(self, symbol: str, column: int, ts: int) -> list[ExogenousUpdate]:
        """Log of perpetual over spot, where both are quoted in one step and neither is suspect."""
        open_ = step_open(ts, self._moment.interval)
        spot, perpetual = (self._mark(name, open_) for name in (symbol, f"{symbol}-PERP"))
        if spot is None or perpetual is None:
            return []
        return [ExogenousUpdate(open_, column, BASIS, math.log(perpetual / spot))]

    def _mark(self, instrument: str, open_: int) -> float | None:
        told = self._intake.in_force(instrument, "mark")
        if told is None or step_open(told.ts, self._moment.interval) != open_:
            return None
        return told.value[0]
