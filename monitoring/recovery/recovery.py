"""Recover the live market: apply the recorded bars and quotes in the order of their recording.

Bars are read from the newest step of the history on. Quotes never end, so the whole board is
recorded once in a while, and they are read from there on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

import msgspec

from decisions.errors import NoMarketError
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.bars.outlier_filter import OutlierFilter
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.quotes.quote_store import QuoteField, QuoteStoreBuilder, restore_quotes
from market.sources.base import BarUpdate, Figure
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.bar_checks import MAX_AHEAD_DAYS, BarChecks
from monitoring.market_state.bar_updates import BARS, Correction, apply_bars
from monitoring.market_state.exogenous import apply_exogenous, from_records, to_records
from monitoring.market_state.messages import BarResult
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import Counting, StepRule
from monitoring.quotes.checks import AHEAD_OF_BARS, AHEAD_OF_CLOCK, QuoteChecks
from monitoring.quotes.filter_record import FilterRecord
from monitoring.quotes.messages import QuoteResult
from monitoring.quotes.quote_updates import QUOTES, apply_quotes

QUOTE_BOARD = "quote_board"
"""Kind of the ledger entries that hold all that is quoted."""

SAVED_EVERY = 10_000
"""So many recorded quotes, or four times the fields known, lie between two saved boards."""

_NAMED_BARS = 5

_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class RecoveryInputs:
    """What recovery checks recorded bars and quotes with.

    Attributes
    ----------
    columns:
        Column of each symbol.
    outlier_filter:
        Parameters of the outlier filter; None: nothing is filtered.
    cash_assets:
        Assets of the rule set that count as cash.
    in_history:
        Open and column of the bars that the history has as they were recorded.
    """

    columns: Mapping[str, int]
    outlier_filter: OutlierFilter | None
    cash_assets: Collection[str] = ()
    in_history: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class RecoveredMarket:
    """A market after recovery: how many bars counted, and how many quotes since the saved board."""

    state: LiveMarketState
    bars: int
    unsaved: int


def quote_checks(
    state: LiveMarketState,
    columns: Mapping[str, int],
    cash_assets: Collection[str],
    now: int | None,
) -> QuoteChecks:
    """The checks of quotes now.

    Raises
    ------
    NoMarketError
        Without a wall clock: there is no bar yet.
    """
    if now is not None:
        # To the microsecond: what is recorded is what counted.
        known = max(now - now % 1_000, state.newest_known or 0)
        return QuoteChecks(columns, cash_assets, known, now + AHEAD_OF_CLOCK)
    newest, known_now = state.newest_close, state.newest_known
    if newest is None or known_now is None:
        raise NoMarketError("the market has no bar yet; post bars first")
    return QuoteChecks(columns, cash_assets, known_now, newest + AHEAD_OF_BARS)


def saved_board(state: LiveMarketState) -> Entry:
    """An entry with all fields in force, to start recovery from."""
    payload = {
        "figures": [
            [field.instrument, field.figure, field.ts, list(field.value)]
            for field in state.quotes.figures_in_force()
        ],
        "context": to_records(state.quote_series, state.head.symbols),
        **FilterRecord(state.quotes.suspect_figures()).payload(),
    }
    return Entry(QUOTE_BOARD, payload, as_of=state.newest_known)


def replay_market_records(
    state: LiveMarketState,
    ledger: Ledger,
    inputs: RecoveryInputs,
    now: int | None,
) -> RecoveredMarket:
    """The market after the recorded bars and quotes, see `LiveMarket.recover`.

    Raises
    ------
    LedgerError
        The ledger cannot be read, or a record was altered.
    DataError
        A record holds something else.
    """
    bars = unsaved = 0
    lost: list[BarResult] = []
    begin, outlier_filter = state.newest_close, inputs.outlier_filter
    latest = None if now is None else now + AHEAD_OF_CLOCK
    for record in _recorded(ledger, state.newest_close):
        try:
            if record.kind == BARS:
                if not _is_older(record, begin):
                    state, counted, lost_now = _apply_bars(state, record.payload, inputs)
                    bars += counted
                    lost += lost_now
                state = _confirm(state, record.payload)
                continue
            checks = _recorded_checks(state, inputs.columns, inputs.cash_assets, latest)
            if record.kind == QUOTE_BOARD:
                state = _restore_board(state, record.payload, checks, outlier_filter)
                unsaved = 0
            else:
                messages = msgspec.convert(record.payload["quotes"], list[QuoteIn])
                quotes = quote_updates(messages).readable()
                filtered = FilterRecord.from_payload(record.payload)
                state, posted = apply_quotes(state, quotes, checks, outlier_filter, filtered)
                unsaved += len(quotes)
                _warn(posted.response.results)
        except (KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} does not hold {record.kind} ({error}); it was written by "
                "another version, start from a newer history"
            ) from error
    _warn_of_lost(lost)
    return RecoveredMarket(state, bars, unsaved)


def _recorded(ledger: Ledger, newest_close: int | None) -> Iterator[Record]:
    # The newest step included: its corrections were recorded at its own close.
    bars = ledger.records(BARS, since_as_of=newest_close)
    board = ledger.last_record(QUOTE_BOARD)
    since = None if board is None else board.recorded_at
    quotes = ledger.records(QUOTES, since_recorded=since)
    boards = iter(()) if board is None else iter((board,))
    # Bars of the history itself say which quotes they confirmed.
    older = (r for r in ledger.records(BARS, since_recorded=since) if _is_older(r, newest_close))
    return merge(bars, older, quotes, boards, key=lambda r: (r.recorded_at, r.chain, r.seq))


def _is_older(record: Record, newest_close: int | None) -> bool:
    """Whether the bars of an entry are older than the newest step of the history."""
    if newest_close is None or record.kind != BARS:
        return False
    return record.as_of is None or record.as_of < newest_close


def _confirm(state: LiveMarketState, payload: Mapping[str, Any]) -> LiveMarketState:
    """The market with the quotes that recorded bars confirmed."""
    confirmed = FilterRecord.from_payload(payload).confirmed
    if not confirmed:
        return state
    store = QuoteStoreBuilder(state.quotes)
    for field in confirmed:
        store.confirm(field, field.confirmed)
    # The time does not matter: what is over was dropped when quotes came.
    return replace(state, quotes=store.build(0))


def _recorded_checks(
    state: LiveMarketState,
    columns: Mapping[str, int],
    cash_assets: Collection[str],
    latest: int | None,
) -> QuoteChecks:
    """The checks of quotes at their recording: what expired since had not expired then."""
    if latest is None:
        latest = (state.newest_close or 0) + AHEAD_OF_BARS
    return QuoteChecks(columns, cash_assets, state.newest_known or 0, latest)


def _restore_board(
    state: LiveMarketState,
    payload: Mapping[str, Any],
    checks: QuoteChecks,
    outlier_filter: OutlierFilter | None,
) -> LiveMarketState:
    content = msgspec.convert(payload["figures"], list[tuple[str, Figure, int, tuple[float, ...]]])
    fields = [QuoteField(*parts) for parts in content]
    fit = [f for f in fields if f.ts <= checks.latest and checks.fits(f.instrument)]
    if len(fit) < len(fields):
        _LOG.warning(
            "%d of %d recorded quotes no longer fit this market",
            len(fields) - len(fit),
            len(fields),
        )
    suspects = FilterRecord.from_payload(payload).suspects
    quotes = restore_quotes(fit, [f for f in suspects if checks.fits(f.instrument)])
    updates = from_records(payload["context"], checks.columns, state.interval)
    return apply_exogenous(replace(state, quotes=quotes), updates, outlier_filter, by_record=True)


def _apply_bars(
    state: LiveMarketState,
    payload: Mapping[str, Any],
    inputs: RecoveryInputs,
) -> tuple[LiveMarketState, int, list[BarResult]]:
    """The market after recorded bars, how many counted, and those that counted when they were
    recorded and do not any more, with their recorded status."""
    columns, outlier_filter = inputs.columns, inputs.outlier_filter
    bars = bar_updates(msgspec.convert(payload["bars"], list[BarIn])).readable()
    series = from_records(payload.get("context", ()), columns, state.interval)
    state = apply_exogenous(state, series, outlier_filter, by_record=True)
    checks = BarChecks(state.interval, columns, MAX_AHEAD_DAYS)
    results = msgspec.convert(payload["results"], list[BarResult])
    late = [i for i, result in enumerate(results) if result.status == "late"]
    correction = payload.get("correction")
    state, posted = apply_bars(
        state,
        str(payload["interval"]),
        bars,
        checks,
        outlier_filter,
        _recorded_counting(payload, bars, late),
        correction=None if correction is None else Correction(str(correction["author"])),
        late=late,
    )
    # What the outlier filter rejected was recorded as that.
    _warn(
        result
        for result, then in zip(posted.response.results, results, strict=True)
        if then.status != "rejected"
    )
    lost = [
        then
        for now, then in zip(posted.response.results, results, strict=True)
        if now.status == "late"
        and then.status in ("applied", "corrected", "suspect")
        and (parse_time(then.ts), columns[then.symbol]) not in inputs.in_history
    ]
    counted = sum(r.status in ("applied", "corrected") for r in posted.response.results)
    return state, counted, lost


def _recorded_counting(
    payload: Mapping[str, Any], bars: Sequence[BarUpdate], late: Collection[int]
) -> Counting:
    """Which steps came to count when these bars were recorded."""
    until, final = payload.get("newest"), payload.get("final_until")
    if "steps" not in payload:
        # Written by an earlier version, in which the first bar of a step made it count.
        opens = [bar.ts for i, bar in enumerate(bars) if i not in late]
        until = format_time(max(opens)) if opens else None
    return Counting(
        StepRule(),
        payload.get("received"),
        replayed=True,
        until=None if until is None else parse_time(str(until)),
        final_until=None if final is None else parse_time(str(final)),
    )


def _warn_of_lost(lost: Sequence[BarResult]) -> None:
    if lost:
        names = ", ".join(f"{bar.symbol} {bar.ts} ({bar.status})" for bar in lost[:_NAMED_BARS])
        _LOG.warning(
            "recorded bars that counted are not in this market: %d, their steps are older than "
            "the newest one of the history (%s); put them into the bar files and start again, or "
            "post them as corrections",
            len(lost),
            names + (", …" if lost[_NAMED_BARS:] else ""),
        )


def _warn(results: Iterable[BarResult] | Iterable[QuoteResult]) -> None:
    for result in results:
        if result.status == "rejected":
            name = result.symbol if isinstance(result, BarResult) else result.instrument
            _LOG.warning(
                "recorded %s %s no longer fits this market: %s", name, result.ts, result.detail
            )
