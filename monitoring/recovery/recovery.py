"""Apply recorded bars and quotes to the live market, at a start and while it follows others.

`apply_record` is the one way in which a record changes a market: of the process that received what
was posted, of every other one that follows the market chain, and of one that starts. A start reads
bars from the newest step of the history on. Quotes never end, so the whole board is recorded once
in a while, and they are read from there on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

import msgspec

from decisions.errors import NoMarketError
from ledger.following import ChainHead, SharedChain
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.bars.outlier_filter import OutlierFilter
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.quotes.quote_store import QuoteField, QuoteStoreBuilder, restore_quotes
from market.sources.base import BarUpdate, Figure
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.bar_checks import MAX_AHEAD_DAYS, BarChecks
from monitoring.market_state.bar_updates import BARS, REPLACED, Correction, apply_bars
from monitoring.market_state.exogenous import apply_exogenous, from_records, to_records
from monitoring.market_state.messages import BarResult
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import Counting, StepRule
from monitoring.quotes.checks import AHEAD_OF_BARS, AHEAD_OF_CLOCK, QuoteChecks
from monitoring.quotes.filter_record import FilterRecord
from monitoring.quotes.quote_updates import QUOTES, apply_quotes

QUOTE_BOARD = "quote_board"
"""Kind of the ledger entries that hold all that is quoted."""

MARKET_KINDS = (BARS, QUOTES, QUOTE_BOARD)
"""Kinds of the ledger entries that change the market."""

MARKET_CHAIN = "market"
"""Chain of the market records, whoever receives them."""

SAVED_EVERY = 10_000
"""Recorded quotes between two saved boards, or four times the number of known fields."""

_NAMED = 5
_ANY_TIME = 2**63 - 1

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
class AppliedRecord:
    """A market after a record.

    Attributes
    ----------
    state:
        The market.
    bars:
        How many of its bars count.
    quotes:
        How many quotes it holds.
    misfits:
        Bars and quotes that counted when they were recorded and do not fit this market: name,
        time, recorded status and reason.
    """

    state: LiveMarketState
    bars: int = 0
    quotes: int = 0
    misfits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecoveredMarket:
    """A market after recovery: how many bars counted, and how many quotes since the saved board."""

    state: LiveMarketState
    bars: int
    unsaved: int


def market_chain(ledger: Ledger) -> SharedChain:
    """The chain of the market records of a ledger."""
    return SharedChain(ledger, MARKET_CHAIN, MARKET_KINDS)


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
        return QuoteChecks(columns, cash_assets, known, now + AHEAD_OF_CLOCK, received=known)
    newest, known_now = state.newest_close, state.newest_known
    if newest is None or known_now is None:
        raise NoMarketError("the market has no bar yet; post bars first")
    return QuoteChecks(columns, cash_assets, known_now, newest + AHEAD_OF_BARS)


def saved_board(state: LiveMarketState, received: int | None) -> Entry:
    """An entry with all fields in force, to start recovery from; `received` as of its quotes."""
    payload: dict[str, Any] = {
        "figures": [
            [field.instrument, field.figure, field.ts, list(field.value)]
            for field in state.quotes.figures_in_force()
        ],
        "context": to_records(state.quote_series, state.head.symbols),
        **FilterRecord(state.quotes.suspect_figures()).payload(),
    }
    if received is not None:
        payload["received"] = received
    return Entry(QUOTE_BOARD, payload, as_of=state.newest_known)


def apply_record(
    state: LiveMarketState,
    kind: str,
    payload: Mapping[str, Any],
    inputs: RecoveryInputs,
    latest: int | None = None,
) -> AppliedRecord:
    """The market after recorded bars or quotes.

    It depends on the market before and on the record alone: not on a clock, and not on the rule by
    which steps count. A saved board changes nothing, it is what the records before it gave.

    Parameters
    ----------
    state:
        The market before it.
    kind, payload:
        Of the record, as it is read from the ledger.
    inputs:
        What it is checked with.
    latest:
        Newest time of quotes whose record does not say when they were received; None: a day after
        the newest bar.

    Raises
    ------
    DataError
        The record holds something else.
    """
    try:
        if kind == BARS:
            return _apply_bars(state, payload, inputs)
        if kind == QUOTES:
            return _apply_quotes(state, payload, inputs, latest)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise DataError(f"it does not hold {kind} ({error})") from error
    if kind == QUOTE_BOARD:
        return AppliedRecord(state)
    raise DataError(f"{kind!r} is no kind of a market record; this version knows {MARKET_KINDS}")


def replay_market_records(
    state: LiveMarketState,
    ledger: Ledger,
    inputs: RecoveryInputs,
    now: int | None,
    until: ChainHead,
) -> RecoveredMarket:
    """The market after the recorded bars and quotes, see `LiveMarket.recover`.

    Records of the market chain after `until` are left out.

    Raises
    ------
    LedgerError
        The ledger cannot be read, or a record was altered.
    DataError
        A record holds something else.
    """
    bars = unsaved = 0
    lost: list[str] = []
    begin, outlier_filter = state.newest_close, inputs.outlier_filter
    latest = None if now is None else now + AHEAD_OF_CLOCK
    for record in _recorded(ledger, state.newest_close, until):
        try:
            if record.kind == BARS and _is_older(record, begin):
                state = _confirm(state, record.payload)
                continue
            if record.kind == QUOTE_BOARD:
                checks = _recorded_checks(state, inputs, record.payload, latest)
                state = _restore_board(state, record.payload, checks, outlier_filter)
                unsaved = 0
                continue
            applied = apply_record(state, record.kind, record.payload, inputs, latest)
        except (DataError, KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} cannot be applied ({error}); it was written by another "
                "version, start from a newer history"
            ) from error
        state, bars, unsaved = applied.state, bars + applied.bars, unsaved + applied.quotes
        lost += applied.misfits
    _warn_of_lost(lost)
    return RecoveredMarket(state, bars, unsaved)


def _recorded(ledger: Ledger, newest_close: int | None, until: ChainHead) -> Iterator[Record]:
    # The newest step included: its corrections were recorded at its own close.
    bars = ledger.records(BARS, since_as_of=newest_close)
    board = market_chain(ledger).last(QUOTE_BOARD, until) or ledger.last_record(QUOTE_BOARD)
    if board is not None and not _is_until(board, until):
        board = None
    if board is None:
        # The first quote, as the bars before it confirmed none.
        first = next(ledger.records(QUOTES), None)
        since = None if first is None else first.recorded_at
    else:
        since = board.recorded_at
    sources: list[Iterable[Record]] = [bars]
    if since is not None:
        # Bars of the history itself say which quotes they confirmed.
        older = ledger.records(BARS, since_recorded=since)
        sources.append(record for record in older if _is_older(record, newest_close))
        sources.append(ledger.records(QUOTES, since_recorded=since))
    if board is not None:
        sources.append((board,))
    recorded = merge(*sources, key=lambda r: (r.recorded_at, r.chain, r.seq))
    return (record for record in recorded if _is_until(record, until))


def _is_until(record: Record, until: ChainHead) -> bool:
    """Whether a record is not in the market chain, or no later there than `until`."""
    return record.chain != MARKET_CHAIN or record.seq <= until.seq


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
    inputs: RecoveryInputs,
    payload: Mapping[str, Any],
    latest: int | None,
) -> QuoteChecks:
    """The checks of quotes at their recording: what expired since had not expired then."""
    received = payload.get("received")
    if received is not None:
        # They were checked against the clock of whoever received them.
        return QuoteChecks(inputs.columns, inputs.cash_assets, int(received), _ANY_TIME, received)
    if latest is None:
        latest = (state.newest_close or 0) + AHEAD_OF_BARS
    return QuoteChecks(inputs.columns, inputs.cash_assets, state.newest_known or 0, latest)


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


def _apply_quotes(
    state: LiveMarketState,
    payload: Mapping[str, Any],
    inputs: RecoveryInputs,
    latest: int | None,
) -> AppliedRecord:
    """The market after recorded quotes."""
    quotes = quote_updates(msgspec.convert(payload["quotes"], list[QuoteIn])).readable()
    filtered = FilterRecord.from_payload(payload)
    checks = _recorded_checks(state, inputs, payload, latest)
    state, posted = apply_quotes(state, quotes, checks, inputs.outlier_filter, filtered)
    results = posted.response.results
    misfits = [f"{r.instrument} {r.ts}: {r.detail}" for r in results if r.status == "rejected"]
    return AppliedRecord(state, quotes=len(quotes), misfits=tuple(misfits))


def _apply_bars(
    state: LiveMarketState,
    payload: Mapping[str, Any],
    inputs: RecoveryInputs,
) -> AppliedRecord:
    """The market after recorded bars."""
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
        _recorded_counting(payload, bars, results),
        correction=None if correction is None else Correction(str(correction["author"])),
        late=late,
    )
    misfits = [
        f"{then.symbol} {then.ts} ({then.status}): {now.detail}"
        for now, then in zip(posted.response.results, results, strict=True)
        # What the outlier filter rejected was recorded as that.
        if (now.status == "rejected" and then.status != "rejected")
        or (
            now.status == "late"
            and then.status in ("applied", "corrected", "suspect")
            and (parse_time(then.ts), columns[then.symbol]) not in inputs.in_history
        )
    ]
    counted = sum(r.status in ("applied", "corrected") for r in posted.response.results)
    return AppliedRecord(_confirm(state, payload), counted, misfits=tuple(misfits))


def _recorded_counting(
    payload: Mapping[str, Any], bars: Sequence[BarUpdate], results: Sequence[BarResult]
) -> Counting:
    """Which steps came to count when these bars were recorded."""
    until, final = payload.get("newest"), payload.get("final_until")
    if "steps" not in payload:
        # Written by an earlier version, in which the first bar of a step made it count.
        opens = [bar.ts for bar, then in zip(bars, results, strict=True) if then.status != "late"]
        until = format_time(max(opens)) if opens else None
    return Counting(
        StepRule(),
        payload.get("received"),
        replayed=True,
        until=None if until is None else parse_time(str(until)),
        final_until=None if final is None else parse_time(str(final)),
        replaced=frozenset(
            i for i, then in enumerate(results) if (then.detail or "").startswith(REPLACED)
        ),
    )


def _warn_of_lost(lost: Sequence[str]) -> None:
    if lost:
        _LOG.warning(
            "recorded bars or quotes that counted are not in this market: %d (%s); put bars into "
            "the bar files and start again, or post them as corrections",
            len(lost),
            first_misfits(lost),
        )


def first_misfits(misfits: Sequence[str]) -> str:
    """The first few of them, for a message."""
    return "; ".join(misfits[:_NAMED]) + ("; …" if misfits[_NAMED:] else "")
