"""What the ledger holds of a market is applied again, in the order in which it was recorded.

Bars are read from the newest step of the history on. Quotes change what is known without an end,
so the whole board is recorded once in a while, and they are read from there on.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

import msgspec

from decisions.messages import BarResult
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.bars.outlier_filter import PriceGuard
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.quotes.quote_store import QuoteField, QuoteStoreBuilder, restored_quotes
from market.sources.base import BarUpdate, Figure
from market.sources.http import BarIn, QuoteIn, bar_updates, quote_updates
from monitoring.market_state.bar_checks import MAX_AHEAD_DAYS, BarChecks
from monitoring.market_state.exogenous_updates import apply_exogenous, from_records, to_records
from monitoring.market_state.live_market_state import LiveMarketState
from monitoring.market_state.live_steps import Counting, StepRule
from monitoring.market_state.posted_bars import BARS, Correction, apply_bars
from monitoring.quotes.filtered_figures import FilteredFigures
from monitoring.quotes.messages import QuoteResult
from monitoring.quotes.posted_quotes import QUOTES, apply_quotes
from monitoring.quotes.quote_checks import AHEAD_OF_BARS, AHEAD_OF_CLOCK, QuoteChecks

QUOTE_BOARD = "quote_board"
"""Kind of the ledger entries that hold all that is quoted."""

SAVED_EVERY = 10_000
"""So many recorded quotes, or four times the figures known, lie between two of them."""

_NAMED_BARS = 5

_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class Known:
    """What recorded bars and quotes are held against.

    Attributes
    ----------
    columns:
        Column of each symbol.
    guard:
        Parameters of the outlier filter; None: nothing is filtered.
    cash_assets:
        Assets of the rule set that count as cash.
    in_history:
        Open and column of the bars that the history has as they were recorded.
    """

    columns: Mapping[str, int]
    guard: PriceGuard | None
    cash_assets: Collection[str] = ()
    in_history: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplayedMarket:
    """A market after what was recorded: how many bars counted, and quotes since the saved board."""

    moment: LiveMarketState
    bars: int
    unsaved: int


def quote_checks(
    moment: LiveMarketState,
    columns: Mapping[str, int],
    cash_assets: Collection[str],
    now: int | None,
) -> QuoteChecks:
    """What quotes are held against now.

    Raises
    ------
    DataError
        Without a wall clock: there is no bar yet.
    """
    if now is not None:
        # To the microsecond: what is recorded is what counted.
        known = max(now - now % 1_000, moment.newest_known or 0)
        return QuoteChecks(columns, cash_assets, known, now + AHEAD_OF_CLOCK)
    newest, known_now = moment.newest_close, moment.newest_known
    if newest is None or known_now is None:
        raise DataError("the market has no bar yet; post bars first")
    return QuoteChecks(columns, cash_assets, known_now, newest + AHEAD_OF_BARS)


def saved_board(moment: LiveMarketState) -> Entry:
    """All that is quoted, to start from."""
    payload = {
        "figures": [
            [figure.instrument, figure.figure, figure.ts, list(figure.value)]
            for figure in moment.quotes.figures_in_force()
        ],
        "context": to_records(moment.posted_context, moment.head.symbols),
        **FilteredFigures(moment.quotes.suspect_figures()).payload(),
    }
    return Entry(QUOTE_BOARD, payload, as_of=moment.newest_known)


def replay_market_records(
    moment: LiveMarketState,
    ledger: Ledger,
    known: Known,
    now: int | None,
) -> ReplayedMarket:
    """The market after the recorded bars and quotes, see `LiveMarket.catch_up`.

    Raises
    ------
    LedgerError
        The ledger cannot be read, or a record was altered.
    DataError
        A record holds something else.
    """
    bars = unsaved = 0
    lost: list[BarResult] = []
    begin, guard = moment.newest_close, known.guard
    latest = None if now is None else now + AHEAD_OF_CLOCK
    for record in _recorded(ledger, moment.newest_close):
        try:
            if record.kind == BARS:
                if not _is_older(record, begin):
                    moment, counted, late = _bars(moment, record.payload, known)
                    bars += counted
                    lost += late
                moment = _confirmed(moment, record.payload)
                continue
            checks = _checks_then(moment, known.columns, known.cash_assets, latest)
            if record.kind == QUOTE_BOARD:
                moment = _board(moment, record.payload, checks, guard)
                unsaved = 0
            else:
                messages = msgspec.convert(record.payload["quotes"], list[QuoteIn])
                quotes = quote_updates(messages).readable()
                filtered = FilteredFigures.recorded(record.payload)
                moment, posted = apply_quotes(moment, quotes, checks, guard, filtered)
                unsaved += len(quotes)
                _warn(posted.response.results)
        except (KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} does not hold {record.kind} ({error}); it was written by "
                "another version, start from a newer history"
            ) from error
    _warn_of_lost(lost)
    return ReplayedMarket(moment, bars, unsaved)


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


def _confirmed(moment: LiveMarketState, payload: Mapping[str, Any]) -> LiveMarketState:
    """The market with the quotes confirmed that recorded bars confirmed."""
    confirmed = FilteredFigures.recorded(payload).confirmed
    if not confirmed:
        return moment
    intake = QuoteStoreBuilder(moment.quotes)
    for figure in confirmed:
        intake.confirm(figure, figure.confirmed)
    # The time does not matter: what is over was dropped when quotes came.
    return replace(moment, quotes=intake.told(0))


def _checks_then(
    moment: LiveMarketState,
    columns: Mapping[str, int],
    cash_assets: Collection[str],
    latest: int | None,
) -> QuoteChecks:
    """What quotes are held against when they were recorded: what expired since had not then."""
    if latest is None:
        latest = (moment.newest_close or 0) + AHEAD_OF_BARS
    return QuoteChecks(columns, cash_assets, moment.newest_known or 0, latest)


def _board(
    moment: LiveMarketState,
    payload: Mapping[str, Any],
    checks: QuoteChecks,
    guard: PriceGuard | None,
) -> LiveMarketState:
    content = msgspec.convert(payload["figures"], list[tuple[str, Figure, int, tuple[float, ...]]])
    figures = [QuoteField(*parts) for parts in content]
    fit = [f for f in figures if f.ts <= checks.latest and checks.fits(f.instrument)]
    if len(fit) < len(figures):
        _LOG.warning(
            "%d of %d recorded quotes no longer fit this market",
            len(figures) - len(fit),
            len(figures),
        )
    suspects = FilteredFigures.recorded(payload).suspects
    quotes = restored_quotes(fit, [f for f in suspects if checks.fits(f.instrument)])
    facts = from_records(payload["context"], checks.columns, moment.interval)
    return apply_exogenous(replace(moment, quotes=quotes), facts, guard, by_record=True)


def _bars(
    moment: LiveMarketState,
    payload: Mapping[str, Any],
    known: Known,
) -> tuple[LiveMarketState, int, list[BarResult]]:
    """The market after recorded bars, how many counted, and those that counted then and do not
    any more, with the status they had."""
    columns, guard = known.columns, known.guard
    bars = bar_updates(msgspec.convert(payload["bars"], list[BarIn])).readable()
    context = from_records(payload.get("context", ()), columns, moment.interval)
    moment = apply_exogenous(moment, context, guard, by_record=True)
    checks = BarChecks(moment.interval, columns, MAX_AHEAD_DAYS)
    results = msgspec.convert(payload["results"], list[BarResult])
    late = [i for i, result in enumerate(results) if result.status == "late"]
    correction = payload.get("correction")
    moment, posted = apply_bars(
        moment,
        str(payload["interval"]),
        bars,
        checks,
        guard,
        _counting_then(payload, bars, late),
        correction=None if correction is None else Correction(str(correction["author"])),
        late=late,
    )
    # What the outlier filter rejected was recorded as that.
    _warn(
        now
        for now, then in zip(posted.response.results, results, strict=True)
        if then.status != "rejected"
    )
    lost = [
        then
        for now, then in zip(posted.response.results, results, strict=True)
        if now.status == "late"
        and then.status in ("applied", "corrected", "suspect")
        and (parse_time(then.ts), columns[then.symbol]) not in known.in_history
    ]
    counted = sum(r.status in ("applied", "corrected") for r in posted.response.results)
    return moment, counted, lost


def _counting_then(
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
        named = ", ".join(f"{bar.symbol} {bar.ts} ({bar.status})" for bar in lost[:_NAMED_BARS])
        _LOG.warning(
            "recorded bars that counted are not in this market: %d, their steps are older than "
            "the newest one of the history (%s); put them into the bar files and start again, or "
            "post them as corrections",
            len(lost),
            named + (", …" if lost[_NAMED_BARS:] else ""),
        )


def _warn(results: Iterable[BarResult] | Iterable[QuoteResult]) -> None:
    for result in results:
        if result.status == "rejected":
            name = result.symbol if isinstance(result, BarResult) else result.instrument
            _LOG.warning(
                "recorded %s %s no longer fits this market: %s", name, result.ts, result.detail
            )
