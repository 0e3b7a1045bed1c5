"""The recorded quotes as of a time, for the valuation in batch jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy

import msgspec

from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import DataError
from market.quotes.quote_store import QuoteField, QuoteStore, QuoteStoreBuilder
from market.quotes.quotes import QuoteBoard
from market.sources.http import QuoteIn, quote_updates
from monitoring.market_state.bar_updates import BARS
from monitoring.quotes.checks import QuoteChecks
from monitoring.quotes.filter_record import FilterRecord
from monitoring.quotes.quote_updates import QUOTES


def recorded_quotes(
    ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], as_of: int
) -> QuoteBoard | None:
    """The board of the quotes up to `as_of`, each field by its own time; None without any.

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
    """Boards at rising times: the ledger is read once, and each field is taken once.

    Parameters and errors are those of `recorded_quotes`; no time may be after `until`.
    """

    def __init__(
        self, ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], until: int
    ) -> None:
        fields = _fields(ledger, symbols, cash_assets, until)
        # Of fields of one time the later one corrects, so the sort has to be stable.
        self._fields = sorted(fields, key=lambda field: field.ts)
        self._until = until
        self._rewind()

    def __len__(self) -> int:
        return len(self._fields)

    def from_start(self) -> RecordedQuotes:
        """The same quotes from the first time on; the ledger is not read again."""
        again = copy(self)
        again._rewind()
        return again

    def _rewind(self) -> None:
        self._last, self._next, self._quotes = -(2**63), 0, QuoteStore()

    def board(self, as_of: int) -> QuoteBoard | None:
        """The board at `as_of`; the same one while no quote is new.

        Raises
        ------
        DataError
            `as_of` is before that of the call before, or after the last quotes that were read.
        """
        if not self._last <= as_of <= self._until:
            raise DataError(
                f"quotes as of {format_time(as_of)} were requested after those of a later time, or "
                f"beyond {format_time(self._until)}, until when they were read; ask in the order "
                "of time"
            )
        self._last = as_of
        if self._next < len(self._fields) and self._fields[self._next].ts <= as_of:
            store = QuoteStoreBuilder(self._quotes)
            while self._next < len(self._fields) and self._fields[self._next].ts <= as_of:
                store.add(self._fields[self._next])
                self._next += 1
            self._quotes = store.build(as_of)
        return self._quotes.board(as_of)


def _fields(
    ledger: Ledger, symbols: Sequence[str], cash_assets: Collection[str], until: int
) -> list[QuoteField]:
    """Every field of a time up to `until`, in the order of recording."""
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    fields: list[QuoteField] = []
    suspects: dict[QuoteField, QuoteField] = {}
    for record in ledger.records(QUOTES):
        try:
            messages = msgspec.convert(record.payload["quotes"], list[QuoteIn])
            filtered = FilterRecord.from_payload(record.payload)
        except (KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} does not hold quotes ({error}); it was written by another "
                "version, score with that one"
            ) from error
        suspects |= {field: field for field in (*filtered.suspects, *filtered.confirmed)}
        # Checked at the time of each record: what expired since had not expired then.
        checks = QuoteChecks(columns, cash_assets, 0, until)
        for quote in quote_updates(messages).updates:
            quoted = checks.check(quote)
            if not isinstance(quoted, str):
                fields += [field for field in quoted if field.ts <= until]
    if any(field.suspect for field in suspects.values()):
        for record in ledger.records(BARS):
            confirmed = FilterRecord.from_payload(record.payload).confirmed
            suspects |= {field: field for field in confirmed}
    # A field that another one confirmed counts from then on, as it did at the endpoint.
    return [suspects.get(field, field) for field in fields]
