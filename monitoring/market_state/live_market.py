"""The live market: updated by bars, step by step, and by quotes.

A step waits until enough symbols have delivered, then it counts
(`monitoring.market_state.steps`). The newest step that counts is computed again with each of
its bars, an older one with each bar that it lacked, from a kept state on. So the features after
all bars are those of the batch to the last bit, in whatever order the bars came. The outlier
filter takes the bars of a step together, by what stood before the step: a suspect bar is recorded
and counts as missing.

Quotes count at once, each field by its own time (`market.quotes.quote_store`); funding, open
interest, implied volatility and basis from quotes are exogenous series of the newest step or a
later one (`monitoring.market_state.exogenous`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from features.state.market_state import MarketFeatures, MarketState
from features.state.snapshot import MarketSnapshot
from ledger.canonical import canonical_bytes, read_canonical
from ledger.following import ChainHead
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.bars.outlier_filter import OutlierFilter, new_state
from market.bars.panel import BarPanel
from market.core.arrays import Floats
from market.core.clock import format_time
from market.core.errors import DataError
from market.sources.base import BarUpdate, QuoteUpdate
from monitoring.market_state.bar_checks import (
    MAX_AHEAD_DAYS,
    MAX_AHEAD_DAYS_UNCLOCKED,
    BarChecks,
)
from monitoring.market_state.bar_updates import MEMORY_STEPS, Correction, apply_bars
from monitoring.market_state.messages import BarsResponse
from monitoring.market_state.recompute import recompute
from monitoring.market_state.state import LiveMarketState
from monitoring.market_state.steps import Checkpoint, Counting, Step, StepRule
from monitoring.quotes.messages import QuotesResponse
from monitoring.quotes.quote_updates import apply_quotes
from monitoring.recovery.recovery import (
    QUOTE_BOARD,
    SAVED_EVERY,
    RecoveryInputs,
    apply_record,
    first_misfits,
    market_chain,
    quote_checks,
    replay_market_records,
    saved_board,
)

_NAMED_SYMBOLS = 5


class LiveMarket:
    """A market that bars and quotes update. Safe to use from several threads.

    What is posted is decided on by the market as it stands and becomes an entry; then the market
    moves as everyone moves that reads the entry from the ledger (`recovery.apply_record`).

    Parameters
    ----------
    market_state:
        Advanced through the history; taken over.
    mark:
        Last mark of each symbol, shape (S,); NaN where there is none.
    features:
        Features of the history, of which the last row counts; None without history.
    recent:
        Bars of the history as received, the newest of which are recognised as duplicates.
    outlier_filter:
        Parameters of the outlier filter; None: bars are not filtered.
    filter_state:
        State of the filter after the history, shape (S, 4); None: before any bar.
    rule:
        When a step counts.
    recorded:
        Open and column of the bars that the history has as the ledger records them.

    Attributes
    ----------
    history_head:
        Head of the market chain before the history was read; None: as of `recover`.

    Raises
    ------
    DataError
        The parts do not fit together.
    """

    def __init__(
        self,
        market_state: MarketState,
        mark: Floats,
        features: MarketFeatures | None,
        recent: BarPanel | None = None,
        outlier_filter: OutlierFilter | None = None,
        filter_state: Floats | None = None,
        rule: StepRule | None = None,
        recorded: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        last, symbols = market_state.last_open, market_state.symbols
        newest = None if last is None else last + market_state.interval.nanoseconds
        at = None if features is None or not len(features.closes) else int(features.closes[-1])
        if mark.shape != (len(symbols),) or at != newest:
            raise DataError(
                f"a live market needs a mark for each of {len(symbols)} symbols and features at "
                f"{newest}; got marks of shape {mark.shape} and features at {at}"
            )
        self._unsaved, self._recorded = 0, recorded
        self.history_head: ChainHead | None = None
        initial = new_state(len(symbols))
        begin = initial if filter_state is None else filter_state.copy()
        if begin.shape != initial.shape:
            raise DataError(
                f"a filter state of shape {begin.shape} does not fit {len(symbols)} symbols"
            )
        self._outlier_filter = outlier_filter
        self._rule = StepRule() if rule is None else rule
        self._columns = {symbol: i for i, symbol in enumerate(symbols)}
        self._lock = threading.Lock()
        self._state = LiveMarketState(
            committed=market_state,
            head=market_state,
            features=None if features is None or at is None else _last_row(features),
            mark=mark.copy(),
            mark_before=mark.copy(),
            received_bars={} if recent is None else _received_bars(recent, market_state),
            filter_state=begin,
            filter_state_before=begin,
            checkpoints=(Checkpoint(market_state, mark.copy(), begin),),
        )

    @property
    def state(self) -> LiveMarketState:
        """The state now; a caller that keeps it sees the same market again."""
        return self._state

    @property
    def newest_close(self) -> int | None:
        """Close of the newest step that counts, nanoseconds; None before the first bar."""
        return self._state.newest_close

    def snapshot(self, as_of: int) -> MarketSnapshot:
        """The market now for a decision at `as_of`, see `LiveMarketState.snapshot`."""
        return self._state.snapshot(as_of)

    def post(
        self,
        interval: str,
        bars: Sequence[BarUpdate],
        *,
        now: int | None = None,
        final: bool = False,
        correction: Correction | None = None,
        record: Callable[[Entry], object] | None = None,
        answered: Callable[[BarsResponse], object] | None = None,
    ) -> BarsResponse:
        """Apply bars of any steps in any order; each step is computed once.

        A bar that became known before it closed is rejected.

        Parameters
        ----------
        interval:
            Name of their interval.
        bars:
            The bars.
        now:
            Wall clock; None: the bars are the clock, and none may open more than a week ahead of
            the newest step.
        final:
            Whether their steps and all before them are complete: they count and are closed.
        correction:
            Given where bars that are late are corrections: they count from the next step on.
        record:
            Called once with what is new, before the market moves: if it raises, nothing moved.
        answered:
            Called with what will be returned, before `record`.

        Returns
        -------
        Results in the order of the bars, and the close of the newest step that counts.
        """
        with self._lock:
            ahead = MAX_AHEAD_DAYS_UNCLOCKED if now is None else MAX_AHEAD_DAYS
            checks = BarChecks(self._state.interval, self._columns, ahead)
            _, posted = apply_bars(
                self._state,
                interval,
                bars,
                checks,
                self._outlier_filter,
                Counting(self._rule, now, final),
                correction=correction,
            )
            if answered is not None:
                answered(posted.response)
            if posted.entry is not None:
                self._move([posted.entry], (), record and (lambda entries: record(*entries)))
        return posted.response

    def count_due(self, now: int, record: Callable[[Entry], object] | None = None) -> None:
        """Let the waiting steps count whose grace is over.

        Parameters
        ----------
        now:
            Wall clock, nanoseconds.
        record:
            As in `post`.
        """
        counting = Counting(self._rule, now)
        with self._lock:
            if counting.due(self._state.waiting) is None:
                return
            interval = self._state.interval
            checks = BarChecks(interval, self._columns, MAX_AHEAD_DAYS)
            _, posted = apply_bars(
                self._state, interval.name, (), checks, self._outlier_filter, counting
            )
            if posted.entry is not None:
                self._move([posted.entry], (), record and (lambda entries: record(*entries)))

    def is_due(self, now: int) -> bool:
        """Whether the grace of a waiting step is over."""
        return Counting(self._rule, now).due(self._state.waiting) is not None

    def waiting_reason(self, now: int | None) -> str | None:
        """Which steps wait for which symbols; None where none does.

        On the wall clock the newest step waits for the other symbols after each of its first bars,
        at most for its grace: that is no fault.
        """
        state = self._state
        if not state.waiting or (now is not None and len(state.waiting) == 1):
            return None
        first = min(state.waiting)
        lacking = state.live & ~state.waiting[first].present
        names = [s for s, lacks in zip(state.head.symbols, lacking, strict=True) if lacks]
        live = int(state.live.sum())
        count = len(state.waiting)
        which = "1 step waits" if count == 1 else f"{count} steps wait"
        return (
            f"{which} for a quorum of {self._rule.needed(live)} bars, {live} symbols are live; "
            f"{format_time(first)} lacks {first_names(names)}"
        )

    def post_quotes(
        self,
        quotes: Sequence[QuoteUpdate],
        *,
        cash_assets: Collection[str] = (),
        now: int | None = None,
        record: Callable[[Sequence[Entry]], object] | None = None,
        answered: Callable[[QuotesResponse], object] | None = None,
    ) -> QuotesResponse:
        """Apply quotes in their order; each field goes by its own time.

        Parameters
        ----------
        quotes:
            The quotes.
        cash_assets:
            Assets of the rule set that count as cash.
        now:
            Wall clock; quotes may be a few seconds ahead of it. None: bars and quotes are the
            clock, and none may be more than a day ahead of the newest bar.
        record:
            Called once with what is new, before the market moves: if it raises, nothing moved.
        answered:
            As in `post`.

        Returns
        -------
        Results in the order of the quotes, and the time of the newest bar or quote.

        Raises
        ------
        NoMarketError
            Without a wall clock: there is no bar yet.
        """
        with self._lock:
            checks = quote_checks(self._state, self._columns, cash_assets, now)
            state, posted = apply_quotes(self._state, quotes, checks, self._outlier_filter)
            if answered is not None:
                answered(posted.response)
            if posted.entry is not None:
                entries = [posted.entry]
                unsaved = self._unsaved + posted.count
                if unsaved >= max(SAVED_EVERY, 4 * len(state.quotes.histories)):
                    entries.append(saved_board(state, checks.received))
                self._move(entries, cash_assets, record)
        return posted.response

    def _move(
        self,
        entries: Sequence[Entry],
        cash_assets: Collection[str],
        record: Callable[[Sequence[Entry]], object] | None,
    ) -> None:
        """Record entries, then apply them to the market as every follower does."""
        before = self._state, self._unsaved
        after = before
        for entry in entries:
            payload = read_canonical(canonical_bytes(entry.payload))
            after = self._after(after, entry.kind, payload, cash_assets)
        if record is not None:
            record(entries)
        self._state, self._unsaved = after

    def follow(self, record: Record, cash_assets: Collection[str] = ()) -> None:
        """Apply a record of the market chain that another process appended.

        Parameters
        ----------
        record:
            The next one after those that this market holds.
        cash_assets:
            As in `post_quotes`.

        Raises
        ------
        DataError
            It holds something else, or what counted by it does not fit this market, which started
            from another history or configuration.
        """
        with self._lock:
            before = self._state, self._unsaved
            self._state, self._unsaved = self._after(
                before, record.kind, record.payload, cash_assets
            )

    def _after(
        self,
        before: tuple[LiveMarketState, int],
        kind: str,
        payload: Mapping[str, Any],
        cash_assets: Collection[str],
    ) -> tuple[LiveMarketState, int]:
        """The market and the number of quotes since the saved board after a record."""
        state, unsaved = before
        applied = apply_record(state, kind, payload, self._inputs(cash_assets))
        if applied.misfits:
            raise DataError(
                f"what counted by a record of {kind} does not fit this market "
                f"({first_misfits(applied.misfits)}): it started from another history or "
                "configuration than the process that recorded it; start it again from the same"
            )
        return applied.state, 0 if kind == QUOTE_BOARD else unsaved + applied.quotes

    def _inputs(self, cash_assets: Collection[str]) -> RecoveryInputs:
        return RecoveryInputs(self._columns, self._outlier_filter, cash_assets, self._recorded)

    def open_step(self, bars: BarPanel, mark: Floats) -> None:
        """Add the newest step of a history: it stays open, and its bars can still be replaced.

        Parameters
        ----------
        bars:
            One row as received, later than what is known; NaN where a symbol has no bar. Its
            exogenous series stay with the step, whatever bars are corrected.
        mark:
            Mark of each symbol at its close, shape (S,).
        """
        with self._lock:
            (open_,) = bars.opens.tolist()
            series = None if bars.exogenous is None else bars.exogenous[0].copy()
            step = Step(bars.values[0].copy(), file_series=series, mark=mark.copy())
            steps = {**self._state.steps, open_: step}
            state, _ = recompute(self._state, steps, open_, open_, self._outlier_filter)
            unmoved = state.suspect & (mark == self._state.mark)
            if unmoved.any():
                # The bar marks its symbol once it is confirmed: nothing else does.
                step = replace(step, mark=np.where(unmoved, np.nan, mark))
                state = replace(state, steps={**state.steps, open_: step})
            self._state = replace(state, received_bars={**state.received_bars, open_: step.bars})

    def recover(
        self,
        ledger: Ledger,
        cash_assets: Collection[str] = (),
        now: int | None = None,
        until: ChainHead | None = None,
    ) -> int:
        """Apply the recorded bars that are not older than the newest step, and the recorded quotes.

        Parameters
        ----------
        ledger:
            Where they are recorded.
        cash_assets:
            Assets of the rule set that count as cash.
        now:
            Wall clock, nanoseconds; None: the bars are the clock.
        until:
            Records of the market chain after this one are left out; None: its head now.

        Returns
        -------
        How many bars were applied or corrected.

        Raises
        ------
        LedgerError
            The ledger cannot be read, or a record was altered.
        DataError
            A record holds no bars or quotes.
        """
        with self._lock:
            inputs = self._inputs(cash_assets)
            head = market_chain(ledger).head() if until is None else until
            recovered = replay_market_records(self._state, ledger, inputs, now, head)
            self._state, self._unsaved = recovered.state, recovered.unsaved
        return recovered.bars


def first_names(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:_NAMED_SYMBOLS]) + (", …" if names[_NAMED_SYMBOLS:] else "")


def _last_row(features: MarketFeatures) -> MarketFeatures:
    return MarketFeatures(
        symbols=features.symbols,
        closes=features.closes[-1:].copy(),
        values=features.values[-1:].copy(),
        correlation=features.correlation[-1:].copy(),
        fast_correlation=features.fast_correlation[-1:].copy(),
        age=features.age[-1:].copy(),
        history=features.history[-1:].copy(),
        bar_hours=features.bar_hours[-1:].copy(),
        daily=features.daily_at(-1),
    )


def _received_bars(recent: BarPanel, state: MarketState) -> dict[int, Floats]:
    if recent.symbols != state.symbols or recent.interval != state.interval:
        raise DataError(
            f"recent bars of {len(recent.symbols)} symbols at {recent.interval.name} do not fit a "
            f"state of {len(state.symbols)} symbols at {state.interval.name}"
        )
    opens = recent.opens[-MEMORY_STEPS:].tolist()
    values = recent.values[-MEMORY_STEPS:].copy()
    return dict(zip(opens, values, strict=True))
