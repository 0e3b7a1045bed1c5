"""Mark prices: which price each symbol is valued at, where it comes from and how old it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from margin.view import MarketView
from market.clock import HOUR
from market.quotes import QuoteBoard

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STALE_INTERVALS = 2
"""A bar close, and without another limit a quoted mark, is stale beyond so many intervals."""


@dataclass(frozen=True, slots=True)
class MarkPrices:
    """Prices of S instruments, one for each symbol; every array of shape (S,).

    Attributes
    ----------
    price:
        Settlement currency; NaN where there is none.
    quoted:
        Whether it is a quoted mark; else it is the close of a bar.
    age_hours:
        `MarketView.as_of` minus the time of the price; NaN where there is none.
    stale:
        Whether neither a fresh quoted mark nor a fresh bar close exists.
    """

    price: Floats
    quoted: Bools
    age_hours: Floats
    stale: Bools


def spot_marks(view: MarketView) -> MarkPrices:
    """Mark prices of the symbols themselves: spot, and what collateral in a coin is worth."""
    return _select(view, view.symbols)


def perpetual_marks(view: MarketView) -> MarkPrices:
    """Mark prices of the perpetuals ``<SYMBOL>-PERP``."""
    return _select(view, [f"{symbol}-PERP" for symbol in view.symbols])


def suspect_view(view: MarketView) -> MarketView | None:
    """The market with every price that waits for confirmation in the place of the last good one.

    An expiry keeps the time of its quote, on which its surface rests. None where no price waits.
    """
    changed = False
    mark, age = view.mark, view.age_hours
    if view.suspect_mark is not None and view.suspect_ts is not None:
        known = np.isfinite(view.suspect_mark)
        changed = bool(known.any())
        mark = np.where(known, view.suspect_mark, mark)
        age = np.where(known, (view.as_of - view.suspect_ts) / HOUR, age)
    quotes = view.quotes
    if quotes is not None:
        suspects = {
            name: replace(
                quote,
                mark=quote.suspect_mark,
                ts=quote.suspect_ts,
                suspect_mark=None,
                suspect_ts=None,
            )
            for name, quote in quotes.instruments.items()
            if quote.suspect_mark is not None and quote.suspect_ts is not None
        }
        forwards = {
            name: replace(
                expiry, forward=expiry.suspect_forward, suspect_forward=None, suspect_ts=None
            )
            for name, expiry in quotes.expiries.items()
            if expiry.suspect_forward is not None
        }
        if suspects or forwards:
            changed = True
            quotes = QuoteBoard({**quotes.expiries, **forwards}, {**quotes.instruments, **suspects})
    if not changed:
        return None
    return replace(
        view, mark=mark, age_hours=age, quotes=quotes, suspect_mark=None, suspect_ts=None
    )


def _select(view: MarketView, instruments: Sequence[str]) -> MarkPrices:
    """The newer of a fresh quoted mark and the last accepted close; on a tie the mark.

    Where neither is fresh the close counts, or the old mark where there is no close.
    """
    price, age = view.mark.copy(), view.age_hours.copy()
    quoted = np.zeros(len(price), dtype=np.bool_)
    limit = STALE_INTERVALS * view.interval_hours
    oldest = limit if view.mark_max_age_hours is None else view.mark_max_age_hours
    with np.errstate(invalid="ignore"):
        stale = ~(age <= limit)
    if view.quotes is not None and view.quotes.instruments:
        board = view.quotes.instruments
        for s, name in enumerate(instruments):
            quote = board.get(name)
            if quote is None or quote.mark is None:
                continue
            quote_age = (view.as_of - quote.ts) / HOUR
            fresh = quote_age <= oldest
            if (fresh and not age[s] < quote_age) or not 0.0 < price[s] < np.inf:
                price[s], age[s], quoted[s] = quote.mark, quote_age, True
                stale[s] = not fresh
    return MarkPrices(price, quoted, age, stale)
