"""The quotes that the ledger holds, as they stood at a time: what batch jobs price with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy

import msgspec

from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import DataError
from market.quotes.quote_store import QuoteField, QuoteStore, QuoteStoreBuilder
from market.quotes.quotes import QuoteBoard
from monitoring.market_state.posted_bars import BARS
from monitoring.quotes.filtered_figures import FilteredFigures
from monitoring.quotes.messages import QuoteIn
from monitoring.quotes.posted_quotes import QUOTES
from monitoring.quotes.quote_checks import QuoteChecks


def recorded_quotes(
    ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], as_of: int
) -> QuoteBoard | None:
    """What was quoted by `as_of`, each figure by its own time; None where nothing was.

    Every recorded quote is read: the decision time may lie anywhere in their history.

    Parameters
    ----------
    ledger:
        Where they are recorded.
    symbols:
        Of the market.
    cash_assets:
        Of the rule set, whose quotes are the price of the settlement currency's coin.
    as_of:
        Nanoseconds; later quotes are left out.

    Raises
    ------
    LedgerError
        The ledger cannot be read.
    DataError
        A record does not hold quotes.
    """
    return RecordedQuotes(ledger, symbols, cash_assets, as_of).board(as_of)


class RecordedQuotes:
    """The boards of rising times: the ledger is read once, and each figure taken once.

    Parameters and errors are those of `recorded_quotes`; no time after `until` may be asked for.
    """

    def __init__(
        self, ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], until: int
    ) -> None:
        figures = _figures(ledger, symbols, cash_assets, until)
        # Of figures of one time that told later corrects, so the sort has to be stable.
        self._figures = sorted(figures, key=lambda figure: figure.ts)
        self._until = until
        self._rewind()

    def __len__(self) -> int:
        return len(self._figures)

    def from_start(self) -> RecordedQuotes:
        """The same quotes, to be asked for all times again; the ledger is not read."""
        again = copy(self)
        again._rewind()
        return again

    def _rewind(self) -> None:
        self._asked, self._next, self._told = -(2**63), 0, QuoteStore()

    def board(self, as_of: int) -> QuoteBoard | None:
        """What was quoted by `as_of`; the same board while nothing new was told.

        Raises
        ------
        DataError
            `as_of` is before the last one asked for, or after the last quotes that were read.
        """
        if not self._asked <= as_of <= self._until:
            raise DataError(
                f"quotes as of {format_time(as_of)} were asked for after those of a later time, or "
                f"beyond {format_time(self._until)}, until when they were read; ask in the order "
                "of time"
            )
        self._asked = as_of
        if self._next < len(self._figures) and self._figures[self._next].ts <= as_of:
            intake = QuoteStoreBuilder(self._told)
            while self._next < len(self._figures) and self._figures[self._next].ts <= as_of:
                intake.take(self._figures[self._next])
                self._next += 1
            self._told = intake.told(as_of)
        return self._told.board(as_of)


def _figures(
    ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], until: int
) -> list[QuoteField]:
    """Every figure of a time up to `until`, in the order in which they were told."""
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    told: list[QuoteField] = []
    suspects: dict[QuoteField, QuoteField] = {}
    for record in ledger.records(QUOTES):
        try:
            quotes = msgspec.convert(record.payload["quotes"], list[QuoteIn])
            filtered = FilteredFigures.recorded(record.payload)
        except (KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} does not hold quotes ({error}); it was written by another "
                "version, score with that one"
            ) from error
        suspects |= {figure: figure for figure in (*filtered.suspects, *filtered.confirmed)}
        # Held against the time of each record: what has expired since had not then.
        checks = QuoteChecks(columns, cash_assets, 0, until)
        for quote in quotes:
            sound = checks.check(quote)
            if not isinstance(sound, str):
                told += [figure for figure in sound.figures if figure.ts <= until]
    if any(figure.suspect for figure in suspects.values()):
        for record in ledger.records(BARS):
            confirmed = FilteredFigures.recorded(record.payload).confirmed
            suspects |= {figure: figure for figure in confirmed}
    # A figure that another one confirmed counts from then on, as it did at the endpoint.
    return [suspects.get(figure, figure) for figure in told]
