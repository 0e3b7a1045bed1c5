"""Mark prices and vols: what values an instrument, where it comes from and how old it is.

Positions, collateral in coins and underlyings take their prices from here, options their vols.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats
from market.core.clock import DAY, HOUR
from market.core.identity_cache import IdentityCache
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

POST_IT = "post it to /v1/market/quotes"

QUOTE_COIN = "USDT"
"""The coin that prices are in: a symbol XUSDT is what one X costs in it."""

YEAR = 365 * DAY
"""Nanoseconds."""

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
    suspect:
        Whether a newer price waits for confirmation.
    """

    price: Floats
    quoted: Bools
    age_hours: Floats
    stale: Bools
    suspect: Bools


class MarketMarks:
    """The mark prices of a market, selected once.

    Attributes
    ----------
    symbols:
        Those of the view.
    spot:
        Of the symbols themselves: spot, and what collateral in a coin is worth.
    perpetual:
        Of the perpetuals ``<SYMBOL>-PERP``.
    row:
        Row of each symbol in both.
    oldest_hours:
        Age beyond which a quote is not fresh.
    """

    def __init__(self, view: MarketView) -> None:
        self.symbols = view.symbols
        self.spot = spot_marks(view)
        self.perpetual = perpetual_marks(view)
        self.row = view.index()
        self.oldest_hours = oldest_quote_hours(view)

    def find_price(self, name: str, symbol: str, *, perpetual: bool = False) -> tuple[int, str]:
        """Row of a symbol that has a price; −1 and an error message where it has none.

        Parameters
        ----------
        name:
            The instrument or asset that is priced, for the message.
        symbol:
            The symbol of the price, with `perpetual` that of its perpetual.
        """
        row = self.row.get(symbol, -1)
        if row < 0:
            return -1, f"{name!r} is unknown: the market has no symbol {symbol}; add its bars"
        marks = self.perpetual if perpetual else self.spot
        price = float(marks.price[row])
        if 0.0 < price < np.inf:
            return row, ""
        quoted = f"{symbol}-PERP" if perpetual else symbol
        if marks.quoted[row]:
            return -1, (
                f"{quoted!r} has the quoted mark {price}; expected a price above 0: {POST_IT}"
            )
        return -1, f"{name!r} has no price: the mark of {symbol} is {price}"


def spot_marks(view: MarketView) -> MarkPrices:
    """Mark prices of the symbols themselves: spot, and what collateral in a coin is worth."""
    return _select(view, view.symbols)


def perpetual_marks(view: MarketView) -> MarkPrices:
    """Mark prices of the perpetuals ``<SYMBOL>-PERP``."""
    return _select(view, [f"{symbol}-PERP" for symbol in view.symbols])


def oldest_quote_hours(view: MarketView) -> float:
    """Age beyond which a quoted mark is not used where there is a bar close."""
    if view.mark_max_age_hours is None:
        return STALE_INTERVALS * view.interval_hours
    return view.mark_max_age_hours


def _is_fresh(view: MarketView, ts: int | None) -> bool:
    """Whether a quote of this time is no older than a quoted mark may be."""
    return ts is not None and view.as_of - ts <= round(oldest_quote_hours(view) * HOUR)


def suspect_view(view: MarketView) -> MarketView | None:
    """The market with every price that waits for confirmation in the place of the last good one.

    A suspect quote counts while it is fresh, as a good one does; a suspect bar until another bar
    comes. An expiry keeps the time of its quote, on which its surface rests. None where no price
    waits.
    """
    board = view.quotes
    quoted = board is not None and _boards.get((board,), lambda: _has_suspects(board))
    if view.suspect_mark is None and not quoted:
        return None
    changed = False
    mark, age = view.mark, view.age_hours
    if view.suspect_mark is not None and view.suspect_ts is not None:
        known = np.isfinite(view.suspect_mark)
        changed = bool(known.any())
        mark = np.where(known, view.suspect_mark, mark)
        age = np.where(known, (view.as_of - view.suspect_ts) / HOUR, age)
    quotes = board
    if quotes is not None and quoted:
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
            if expiry.suspect_forward is not None and _is_fresh(view, expiry.suspect_ts)
        }
        if suspects or forwards:
            changed = True
            quotes = QuoteBoard({**quotes.expiries, **forwards}, {**quotes.instruments, **suspects})
        with_vols = _suspect_vols(view, quotes)
        changed |= with_vols is not quotes
        quotes = with_vols
    if not changed:
        return None
    return replace(
        view, mark=mark, age_hours=age, quotes=quotes, suspect_mark=None, suspect_ts=None
    )


_boards: IdentityCache[bool] = IdentityCache(8)


def _has_suspects(board: QuoteBoard) -> bool:
    """Whether anything on a board waits for confirmation."""
    return any(
        quote.suspect_mark is not None or quote.suspect_vol is not None
        for quote in board.instruments.values()
    ) or any(
        quote.suspect_forward is not None or quote.suspect_surface_ts is not None
        for quote in board.expiries.values()
    )


def _suspect_vols(view: MarketView, quotes: QuoteBoard) -> QuoteBoard:
    """The board with suspect vols and surfaces in place; the same board where none waits."""
    options, surfaces = dict(quotes.instruments), dict(quotes.expiries)
    for name, option in quotes.instruments.items():
        ts = option.suspect_ts
        if option.suspect_vol is not None and _is_fresh(view, ts):
            options[name] = replace(
                option,
                vol=option.suspect_vol,
                ts=option.ts if ts is None else ts,
                suspect_vol=None,
                suspect_ts=None,
            )
    for name, expiry in quotes.expiries.items():
        ts = expiry.suspect_surface_ts
        if _is_fresh(view, ts):
            surfaces[name] = replace(
                expiry,
                svi=expiry.suspect_svi,
                vols={} if expiry.suspect_vols is None else expiry.suspect_vols,
                suspect_svi=None,
                suspect_vols=None,
                suspect_surface_ts=None,
            )
    changed = any(options[name] is not quotes.instruments[name] for name in options)
    changed |= any(surfaces[name] is not quotes.expiries[name] for name in surfaces)
    return QuoteBoard(surfaces, options) if changed else quotes


def _select(view: MarketView, instruments: Sequence[str]) -> MarkPrices:
    """The newer of a fresh quoted mark and the last accepted close; on a tie the mark.

    Where neither is fresh the close counts, or the old mark where there is no close. Times are
    compared in whole nanoseconds, so that a tie is one.
    """
    price, age = view.mark.copy(), view.age_hours.copy()
    quoted = np.zeros(len(price), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        stale = ~(age <= STALE_INTERVALS * view.interval_hours)
    suspect = quoted.copy() if view.suspect is None else view.suspect.copy()
    board = {} if view.quotes is None else view.quotes.instruments
    quotes = [board.get(name) for name in instruments] if board else []
    marked: list[tuple[int, float, int]] = []
    for i, quote in enumerate(quotes):
        if quote is None:
            continue
        suspect[i] |= quote.suspect_mark is not None
        if quote.mark is not None:
            marked.append((i, quote.mark, quote.ts))
    if marked:
        row = np.array([i for i, _, _ in marked], dtype=np.int64)
        quote_age = view.as_of - np.array([ts for *_, ts in marked], dtype=np.int64)
        fresh = quote_age <= np.rint(oldest_quote_hours(view) * HOUR)
        with np.errstate(invalid="ignore"):
            closed_later = np.rint(age[row] * HOUR) < quote_age
            closed = (price[row] > 0.0) & (price[row] < np.inf)
        used = (fresh & ~closed_later) | ~closed
        row = row[used]
        price[row] = np.array([mark for _, mark, _ in marked], dtype=np.float64)[used]
        age[row] = quote_age[used] / HOUR
        quoted[row] = True
        stale[row] = ~fresh[used]
    return MarkPrices(price, quoted, age, stale, suspect)


def option_vol(
    strike: float, expiry: int, option: InstrumentQuote | None, quote: ExpiryQuote
) -> tuple[float, int] | None:
    """Annual vol of an option and the time of its quote, nanoseconds; None where there is none.

    Its own quoted vol goes first, then the vols of its expiry by strike, see `vol_at_strike`, then
    the SVI of its expiry: ``sqrt(w(k) / tau)`` with ``k = ln(strike / forward)`` and tau the years
    from the quote to the expiry, because w is the variance that was left then.

    Parameters
    ----------
    strike, expiry:
        Of the option; nanoseconds.
    option, quote:
        Quotes of the option (None: not quoted) and of its expiry.

    Returns
    -------
    A vol that is no finite number of 0 or more counts as none.
    """
    if option is not None and option.vol is not None:
        return _sound(option.vol, option.ts)
    if quote.vols:
        return _sound(vol_at_strike(strike, quote.forward, quote.vols), quote.ts)
    if quote.svi is None or quote.ts >= expiry:
        return None
    variance = svi_variance(_log_ratio(strike, quote.forward), quote.svi)
    if not variance >= 0.0:
        return None
    return _sound(math.sqrt(variance / ((expiry - quote.ts) / YEAR)), quote.ts)


def vol_at_strike(strike: float, forward: float, vols: Mapping[float, float]) -> float:
    """The vol quoted at a strike; between strikes the total variance is linear in
    ``ln(strike / forward)``, beyond the outermost ones the vol stays as it is.

    At one expiry total variance is the square of the vol times the same years, so the squares are
    interpolated.
    """
    if strike in vols:
        return vols[strike]
    strikes = sorted(vols)
    places = [_log_ratio(each, forward) for each in strikes]
    squares = [_square(vols[each]) for each in strikes]
    return math.sqrt(float(np.interp(_log_ratio(strike, forward), places, squares)))


def svi_variance(k: float, svi: tuple[float, float, float, float, float]) -> float:
    """Total variance ``a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))`` at log-moneyness k.

    References
    ----------
    Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14 (2014)
    59-71 (raw parametrisation).
    """
    a, b, rho, m, sigma = svi
    return a + b * (rho * (k - m) + math.sqrt(_square(k - m) + _square(sigma)))


def _sound(vol: float, ts: int) -> tuple[float, int] | None:
    return (vol, ts) if 0.0 <= vol < math.inf else None


def _log_ratio(value: float, by: float) -> float:
    """``ln(value / by)`` of numbers above 0, also where the ratio leaves the range of float64."""
    ratio = value / by
    return math.log(ratio) if 0.0 < ratio < math.inf else math.log(value) - math.log(by)


def _square(value: float) -> float:
    """The square; infinite where it leaves the range of float64."""
    try:
        return float(value**2)
    except OverflowError:
        return math.inf
