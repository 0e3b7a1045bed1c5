"""The quotes that the ledger holds, as they stood at one time: what a batch scorer prices with."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from ledger.store import Ledger
from market.errors import DataError
from market.quotes import QuoteBoard
from market.told_quotes import QuoteIntake, ToldFigure, ToldQuotes
from serving.posted_quotes import QUOTES
from serving.quote_checks import QuoteChecks
from serving.quote_messages import QuoteIn


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
    columns = {symbol: i for i, symbol in enumerate(symbols)}
    figures: list[ToldFigure] = []
    for record in ledger.records(QUOTES):
        try:
            quotes = msgspec.convert(record.payload["quotes"], list[QuoteIn])
        except (KeyError, msgspec.ValidationError) as error:
            raise DataError(
                f"record {record.id} does not hold quotes ({error}); it was written by another "
                "version, score with that one"
            ) from error
        # Held against the time of each record: what has expired since had not then.
        checks = QuoteChecks(columns, cash_assets, 0, as_of)
        for quote in quotes:
            sound = checks.check(quote)
            if not isinstance(sound, str):
                figures += [figure for figure in sound.figures if figure.ts <= as_of]
    intake = QuoteIntake(ToldQuotes())
    for figure in figures:
        intake.take(figure)
    return intake.told(as_of).board(as_of)
