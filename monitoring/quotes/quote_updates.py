"""Apply quotes to the live market: each field by its own time, and their exogenous series.

Marks, forwards, prices of cash assets and vols of options pass the outlier filter
(`market.quotes.quote_filter`). Its verdicts are recorded with the quotes: a restart and a batch job
use every field as the endpoint did.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import msgspec

from ledger.records import Entry
from market.bars.outlier_filter import OutlierFilter
from market.bars.panel import BASIS, CLOSE
from market.core.clock import format_time
from market.quotes.quote_filter import TimedPrice
from market.quotes.quote_store import UNCONFIRMED, QuoteField, QuoteStoreBuilder, Status
from market.sources.base import QuoteUpdate
from market.sources.http import quote_message
from monitoring.market_state.exogenous import (
    ExogenousUpdate,
    apply_exogenous,
    first_open,
    step_open,
    steps_near,
)
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import PERPETUAL_MARK, SPOT_MARK
from monitoring.quotes.checks import EXOGENOUS_COLUMNS, QuoteChecks
from monitoring.quotes.filter_record import FilterRecord
from monitoring.quotes.messages import MAX_INSTRUMENTS, QuoteResult, QuotesResponse
from monitoring.quotes.price_references import PriceReferences
from monitoring.quotes.surface_updates import surface_updates

QUOTES = "quotes"
"""Kind of the ledger entries that hold posted quotes."""

_LATE = "newer fields are known: recorded, but what was known stays as it was"
_NO_FORWARD = "the expiry has no forward yet: its options cannot be valued before it has one"
_BAR_OVER = "its bar is over: it counts as a quote and not as an exogenous series of a bar"
_FULL = (
    f"{MAX_INSTRUMENTS} instruments and expiries are quoted, and no more are taken; what expires "
    "makes room"
)
_RECORDED = ("applied", "late", "suspect")


@dataclass(frozen=True, slots=True)
class AppliedQuotes:
    """Posted quotes as applied.

    Attributes
    ----------
    response:
        The results, for the sender.
    entry:
        What to record; None where no quote was new.
    count:
        How many quotes it holds.
    """

    response: QuotesResponse
    entry: Entry | None
    count: int


def apply_quotes(
    state: LiveMarketState,
    quotes: Sequence[QuoteUpdate],
    checks: QuoteChecks,
    outlier_filter: OutlierFilter | None,
    recorded: FilterRecord | None = None,
) -> tuple[LiveMarketState, AppliedQuotes]:
    """The market with these quotes, applied in their order, and the results.

    Parameters
    ----------
    state:
        The market before them.
    quotes, checks:
        The quotes, and the checks of each alone.
    outlier_filter:
        Parameters of the outlier filter; None: prices are not filtered.
    recorded:
        Verdicts of the filter from the record: it is not asked again.
    """
    batch = _QuoteBatch(state, outlier_filter, recorded)
    quotes = [quote._replace(ts=checks.now) if quote.ts is None else quote for quote in quotes]
    results = [batch.add(quote, checks, i) for i, quote in enumerate(quotes)]
    after = batch.finish(checks.now)
    results = [batch.final_result(i, result) for i, result in enumerate(results)]
    new = [i for i, result in enumerate(results) if result.status in _RECORDED]
    if new:
        state = after
    newest = state.newest_known
    response = QuotesResponse(results, None if newest is None else format_time(newest))
    if not new:
        return state, AppliedQuotes(response, None, 0)
    payload = {
        "quotes": [msgspec.to_builtins(quote_message(quotes[i])) for i in new],
        "results": [msgspec.to_builtins(results[i]) for i in new],
        **FilterRecord(batch.suspects, batch.confirmed).payload(),
    }
    if checks.received is not None:
        payload["received"] = checks.received
    return state, AppliedQuotes(response, Entry(QUOTES, payload, as_of=newest), len(new))


def confirm_by_bars(
    state: LiveMarketState, bars: Collection[tuple[int, int]], outlier_filter: OutlierFilter | None
) -> tuple[LiveMarketState, list[QuoteField]]:
    """Confirm suspect quotes by bars that were accepted.

    Parameters
    ----------
    state:
        The market with the bars.
    bars:
        Open and column of each.
    outlier_filter:
        Parameters of the outlier filter; None: no quote is suspect.

    Returns
    -------
    The market after it, and the quoted fields that count now.
    """
    if outlier_filter is None or not state.quotes.suspects:
        return state, []
    batch = _QuoteBatch(state, outlier_filter, None)
    for open_, column in sorted(bars):
        batch.confirm_by_bar(open_, column)
    # The time does not matter: what is over was dropped when quotes came.
    return batch.finish(0), batch.confirmed


class _QuoteBatch:
    """Adds quotes one by one, and gathers the updates of exogenous series."""

    def __init__(
        self,
        state: LiveMarketState,
        outlier_filter: OutlierFilter | None,
        recorded: FilterRecord | None,
    ) -> None:
        self._state = state
        self._store = QuoteStoreBuilder(state.quotes)
        self._columns = {symbol: i for i, symbol in enumerate(state.head.symbols)}
        self._first = first_open(state)
        self._outlier_filter = outlier_filter
        self._recorded = recorded
        suspects = () if recorded is None else recorded.suspects
        self._recorded_suspects = {field: field for field in suspects}
        self._updates: list[ExogenousUpdate] = []
        self._applied: list[QuoteField] = []
        self._suspect_at: dict[int, list[QuoteField]] = {}
        self.suspects: list[QuoteField] = []
        self.confirmed: list[QuoteField] = []

    def add(self, quote: QuoteUpdate, checks: QuoteChecks, index: int) -> QuoteResult:
        """Add a quote; its result so far, see `final_result`."""
        quoted = checks.check(quote)
        ts = format_time(checks.now if quote.ts is None else quote.ts)
        if isinstance(quoted, str):
            return QuoteResult(quote.instrument, ts, "rejected", quoted)
        cash = quote.instrument in checks.cash_assets
        column = None if cash else self._columns.get(quote.instrument.removesuffix("-PERP"))
        new = {field.instrument for field in quoted if field.instrument not in self._store}
        if len(self._store) + len(new) > MAX_INSTRUMENTS:
            return QuoteResult(quote.instrument, ts, "rejected", _FULL)
        fields: list[QuoteField] = []
        notes: list[str] = []
        for field in quoted:
            filtered, status, detail = self._filter(field, column, fields)
            if status == "rejected":
                detail = f"{field.figure} {detail}"
                return QuoteResult(quote.instrument, ts, "rejected", detail)
            fields.append(filtered)
            notes += [f"{field.figure} {detail}"] if detail else []
        taken = [(field, self._store.add(field)) for field in fields]
        good = [field for field, status in taken if status == "applied" and not field.suspect]
        late = [field.figure for field, status in taken if status == "late"]
        suspect = [field for field, status in taken if status == "applied" and field.suspect]
        self._applied += good
        status_: Status = "applied" if good else "late" if late else "duplicate"
        if late and not good and not suspect:
            notes.append(_LATE)
        elif late:
            notes.append(f"{', '.join(late)} stays as it was: newer is known")
        if any(self._without_forward(field) for field in good):
            notes.append(_NO_FORWARD)
        updates = self._exogenous_updates(quote.instrument, column, good)
        if self._first is not None and any(update.open < self._first for update in updates):
            notes.append(_BAR_OVER)
        self._updates += updates
        if suspect:
            self._suspect_at[index] = suspect
            self.suspects += suspect
        notes += self._confirm(column, [*good, *suspect])
        return QuoteResult(
            quote.instrument, ts, "suspect" if suspect else status_, "; ".join(notes) or None
        )

    def final_result(self, index: int, result: QuoteResult) -> QuoteResult:
        """The result of a quote once all of them were added: it may be confirmed by then."""
        suspect = self._suspect_at.get(index)
        if suspect is None or not all(field in self.confirmed for field in suspect):
            return result
        names = " and ".join(field.figure for field in suspect)
        return msgspec.structs.replace(
            result, status="applied", detail=f"{names} confirmed by a second source"
        )

    def finish(self, now: int) -> LiveMarketState:
        """The market with all quotes that were added."""
        if self._recorded is not None:
            for field in self._recorded.confirmed:
                self._count(self._store.confirm(field, field.confirmed))
        state = replace(self._state, quotes=self._store.build(now))
        surfaces = surface_updates(state.quotes, self._applied, state.interval, self._columns)
        return apply_exogenous(state, [*self._updates, *surfaces], self._outlier_filter)

    def confirm_by_bar(self, open_: int, column: int) -> None:
        """Confirm suspect quotes near the close of a bar that was accepted."""
        bars = self._state.received_bars.get(open_)
        if bars is not None:
            ts = open_ + self._state.interval.nanoseconds
            self._confirm_near(column, TimedPrice(ts, float(bars[column, CLOSE])))

    def _filter(
        self, field: QuoteField, column: int | None, beside: Sequence[QuoteField]
    ) -> tuple[QuoteField, str, str]:
        """The field with its suspicion marked, the verdict of the filter and its reason."""
        if self._store.status(field) != "applied":
            return field, "good", ""
        if self._recorded is not None:
            known = self._recorded_suspects.get(field)
            return (field, "good", "") if known is None else (known, "suspect", "")
        references = self._references()
        if references is None:
            return field, "good", ""
        verdict = references.verdict(field, column, beside)
        if verdict.status == "suspect":
            field = replace(field, confirmed=UNCONFIRMED, since=verdict.since)
        return field, verdict.status, verdict.detail

    def _references(self) -> PriceReferences | None:
        if self._outlier_filter is None:
            return None
        return PriceReferences(self._state, self._store, self._outlier_filter, self._columns)

    def _confirm(self, column: int | None, fields: Sequence[QuoteField]) -> list[str]:
        """Confirm other quotes and bars by new prices; notes for the result."""
        notes: list[str] = []
        for field in fields:
            if field.figure != "mark" or column is None:
                continue
            if not field.suspect:
                price = TimedPrice(field.ts, field.value[0])
                confirmed = self._confirm_near(column, price)
                notes += [f"confirms {f.instrument} of {format_time(f.ts)}" for f in confirmed]
            notes += self._apply_reference(column, field)
        references = self._references()
        if references is not None and self._recorded is None:
            for counts in references.vols.confirm_by(fields):
                self._count(counts)
                if counts not in fields:
                    notes.append(f"confirms {counts.instrument} of {format_time(counts.ts)}")
        return notes

    def _confirm_near(self, column: int, price: TimedPrice) -> list[QuoteField]:
        references = self._references()
        if references is None or self._recorded is not None:
            return []
        confirmed = references.confirm_near(column, price)
        for field in confirmed:
            self._count(field)
        return confirmed

    def _count(self, field: QuoteField | None) -> None:
        """Let a suspect field count that was confirmed."""
        if field is None:
            return
        self.confirmed.append(field)
        self._applied.append(field)
        symbol = field.instrument.removesuffix("-PERP")
        column = self._columns.get(symbol)
        if field.figure == "mark" and column is not None:
            self._updates += self._basis_updates(symbol, column, field.ts)

    def _apply_reference(self, column: int, field: QuoteField) -> list[str]:
        """Use a mark as reference price of the bars near it; at once where a bar waits for it."""
        if self._outlier_filter is None:
            return []
        kind = PERPETUAL_MARK if field.instrument.endswith("-PERP") else SPOT_MARK
        updates = [
            ExogenousUpdate(open_, column, kind, field.value[0])
            for open_ in steps_near(field.ts, self._state.interval)
        ]
        waiting = self._suspect_close(column)
        if waiting is None:
            self._updates += updates
            return []
        self._state = apply_exogenous(self._state, updates, self._outlier_filter)
        if self._suspect_close(column) is not None:
            return []
        self.confirm_by_bar(waiting - self._state.interval.nanoseconds, column)
        symbol = self._state.head.symbols[column]
        return [f"confirms the bar of {symbol} that closed at {format_time(waiting)}"]

    def _suspect_close(self, column: int) -> int | None:
        """When the suspect bar of a symbol closed; None where none waits."""
        suspects = self._state.suspect_bars
        if suspects is None or math.isnan(suspects[0][column]):
            return None
        return int(suspects[1][column])

    def _without_forward(self, field: QuoteField) -> bool:
        surface = field.figure in ("svi", "vols")
        return surface and self._store.in_force(field.instrument, "forward") is None

    def _exogenous_updates(
        self, instrument: str, column: int | None, applied: Sequence[QuoteField]
    ) -> list[ExogenousUpdate]:
        if column is None or not applied:
            return []
        ts = applied[0].ts
        open_ = step_open(ts, self._state.interval)
        updates = [
            ExogenousUpdate(open_, column, EXOGENOUS_COLUMNS[field.figure], field.value[0])
            for field in applied
            if field.figure in EXOGENOUS_COLUMNS
        ]
        if any(field.figure == "mark" for field in applied):
            symbol = instrument.removesuffix("-PERP")
            updates += self._basis_updates(symbol, column, ts)
        return updates

    def _basis_updates(self, symbol: str, column: int, ts: int) -> list[ExogenousUpdate]:
        """Log of perpetual over spot, where both are quoted in one step and neither is suspect."""
        open_ = step_open(ts, self._state.interval)
        spot, perpetual = (self._mark(name, open_) for name in (symbol, f"{symbol}-PERP"))
        if spot is None or perpetual is None:
            return []
        return [ExogenousUpdate(open_, column, BASIS, math.log(perpetual / spot))]

    def _mark(self, instrument: str, open_: int) -> float | None:
        mark = self._store.in_force(instrument, "mark")
        if mark is None or step_open(mark.ts, self._state.interval) != open_:
            return None
        return mark.value[0]
