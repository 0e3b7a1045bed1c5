"""The instruments of a book in a market: each found and priced once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, SPOT, Expiries, Underlyings
from margin.valuation.marks import POST_IT, MarketMarks
from margin.valuation.option_vol import option_vol
from margin.valuation.view import MarketView
from market.core.clock import HOUR, SECOND
from market.core.errors import InstrumentError
from market.core.instruments import Instrument, parse_expiry, parse_instrument
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Listing:
    """K distinct instruments; arrays of shape (K,) but the tables of what they are on.

    Attributes
    ----------
    row:
        Of each identifier.
    reasons:
        Why an instrument cannot be valued, by its identifier.
    valued:
        Whether it can.
    kind, underlying, expiry, strike, vol, call:
        As in `margin.book.portfolio_batch.Portfolios`.
    symbol:
        Row of the underlying's price in the view's symbols.
    price:
        Of spot and perps in the settlement currency; NaN for options.
    price_age_hours, suspect:
        Age of the price of spot and perps, of options that of their underlying, and whether a
        newer one waits for confirmation.
    quote_age_hours:
        Since the older of the quotes that an option's forward and vol come from; 0 for others.
    quoted, stale:
        Whether what values it is quoted, and whether that is older than it may be.
    rank:
        Place in the canonical order; identifiers of the same option share one.
    underlying_symbol:
        Row of the price of each of `underlyings` in the view's symbols.
    """

    row: dict[str, int]
    reasons: dict[str, str]
    valued: Bools
    kind: npt.NDArray[np.int8]
    underlying: Ints
    expiry: Ints
    strike: Floats
    vol: Floats
    call: Bools
    symbol: Ints
    price: Floats
    price_age_hours: Floats
    suspect: Bools
    quote_age_hours: Floats
    quoted: Bools
    stale: Bools
    rank: Ints
    underlyings: Underlyings
    expiries: Expiries
    underlying_symbol: tuple[int, ...]


def list_instruments(
    names: Iterable[str],
    assets: Iterable[str],
    view: MarketView,
    marks: MarketMarks,
    *,
    options: bool = True,
) -> Listing:
    """Find instruments, and the underlyings of collateral assets, in a market.

    A symbol XUSDT is of the underlying X. Spot and perp have the prices of
    `margin.valuation.marks`; open interest counts at the price of the perp, like its positions.
    The underlying of an option on X is symbol X where the market has it, else XUSDT; its forward,
    rate and confidences are those of its expiry's quote, its vol is that of
    `margin.valuation.option_vol`.

    Parameters
    ----------
    names:
        Identifiers of instruments.
    assets:
        Collateral that is not cash: asset X is on the underlying of XUSDT, if there is one.
    view:
        The market, quotes included.
    marks:
        Its prices.
    options:
        Whether the rules margin options; where they do not, an option cannot be valued.
    """
    found = _Finder(view, marks, options=options)
    for name in dict.fromkeys(names):
        found.add(name)
    for asset in dict.fromkeys(assets):
        found.add_asset(asset)
    return found.listing()


@dataclass(frozen=True, slots=True)
class _Found:
    """One instrument that can be valued; `place` is its expiry's, −1 for spot and perps."""

    kind: int
    symbol: int
    price: float = math.nan
    place: tuple[int, int] | None = None
    strike: float = math.nan
    vol: float = math.nan
    call: bool = False
    quote_age_hours: float = 0.0
    quoted: bool = True
    stale: bool = False


class _Finder:
    """Collects what the instruments of a book are on."""

    def __init__(self, view: MarketView, marks: MarketMarks, *, options: bool) -> None:
        self._view, self._marks, self._options = view, marks, options
        self._index = marks.row
        self._board = QuoteBoard() if view.quotes is None else view.quotes
        self._quoted = _by_moment(self._board)
        self._found: dict[str, _Found | None] = {}
        self._reasons: dict[str, str] = {}
        self._symbols: set[int] = set()
        self._places: dict[tuple[int, int], ExpiryQuote] = {}

    def add(self, name: str) -> None:
        try:
            found = self._find(parse_instrument(name))
        except InstrumentError as error:
            self._found[name], self._reasons[name] = None, str(error)
            return
        self._found[name] = found
        self._symbols.add(found.symbol)

    def add_asset(self, asset: str) -> None:
        row, _ = self._marks.find_price(asset, f"{asset}USDT")
        if row >= 0:
            self._symbols.add(row)

    def _find(self, instrument: Instrument) -> _Found:
        if instrument.kind == "option":
            return self._find_option(instrument)
        symbol = self._price(instrument.id, instrument.symbol)
        perpetual = instrument.kind != "spot"
        if perpetual:
            self._price(instrument.id, instrument.symbol, perpetual=True)
        own = self._marks.perpetual if perpetual else self._marks.spot
        return _Found(
            PERP if perpetual else SPOT,
            symbol,
            float(own.price[symbol]),
            quoted=bool(own.quoted[symbol]),
            stale=bool(own.stale[symbol]),
        )

    def _find_option(self, instrument: Instrument) -> _Found:
        name, on, expiry = instrument.id, instrument.symbol, instrument.expiry
        strike, call = instrument.strike, instrument.call
        if expiry is None or strike is None or call is None:
            raise InstrumentError(f"{name!r} is no option", name)
        if not self._options:
            raise InstrumentError(
                f"{name!r} is an option; the rule set's engine margins spot and perpetuals only, "
                "choose one of another engine",
                name,
            )
        symbol = self._price(name, on if on in self._index else f"{on}USDT")
        if expiry <= self._view.as_of:
            raise InstrumentError(
                f"option {name!r} has expired; settle it and take the position out", name
            )
        quote = self._quoted.get((on, expiry))
        if quote is None:
            raise InstrumentError(
                f"option {name!r} has no forward: its expiry {instrument.expiry_id} is not "
                f"quoted; {POST_IT}",
                name,
            )
        if not (0.0 < quote.forward < math.inf and math.isfinite(quote.rate)):
            raise InstrumentError(
                f"option {name!r} has the forward {quote.forward} and the rate {quote.rate}; "
                f"expected a price above 0 and a finite rate: {POST_IT}",
                name,
            )
        own = self._board.instruments.get(name)
        vol = option_vol(strike, expiry, own, quote)
        if vol is None:
            raise InstrumentError(
                f"option {name!r} has no vol, neither its own nor one of its expiry "
                f"{instrument.expiry_id}; {POST_IT}",
                name,
            )
        self._places[symbol, expiry] = quote
        age = (self._view.as_of - min(quote.ts, vol[1])) / HOUR
        return _Found(
            OPTION,
            symbol,
            place=(symbol, expiry),
            strike=strike,
            vol=vol[0],
            call=call,
            quote_age_hours=age,
            stale=not age <= self._marks.oldest_hours,
        )

    def _price(self, name: str, symbol: str, *, perpetual: bool = False) -> int:
        row, reason = self._marks.find_price(name, symbol, perpetual=perpetual)
        if reason:
            raise InstrumentError(reason, name)
        return row

    def _quote(self, name: str) -> InstrumentQuote | None:
        return self._board.instruments.get(name)

    def listing(self) -> Listing:
        symbols = sorted(self._symbols, key=self._name)
        row_of = {symbol: i for i, symbol in enumerate(symbols)}
        places = sorted(self._places, key=lambda place: (row_of[place[0]], place[1]))
        expiry_of = {place: i for i, place in enumerate(places)}
        found = list(self._found.values())
        known = [_Found(SPOT, -1, math.nan) if one is None else one for one in found]
        underlying = [row_of.get(one.symbol, -1) for one in known]
        expiry = [-1 if one.place is None else expiry_of[one.place] for one in known]
        symbol = np.array([one.symbol for one in known], dtype=np.int64)
        kind = np.array([one.kind for one in known], dtype=np.int8)
        age, suspect = self._price_columns(kind, symbol)
        keys = [
            (on, one.kind, own, 0.0 if one.place is None else one.strike, one.call)
            for one, on, own in zip(known, underlying, expiry, strict=True)
        ]
        ranks = {key: i for i, key in enumerate(sorted(set(keys)))}
        return Listing(
            row={name: i for i, name in enumerate(self._found)},
            reasons=self._reasons,
            valued=np.array([one is not None for one in found], dtype=np.bool_),
            kind=kind,
            underlying=np.array(underlying, dtype=np.int64),
            expiry=np.array(expiry, dtype=np.int64),
            strike=np.array([one.strike for one in known], dtype=np.float64),
            vol=np.array([one.vol for one in known], dtype=np.float64),
            call=np.array([one.call for one in known], dtype=np.bool_),
            symbol=symbol,
            price=np.array([one.price for one in known], dtype=np.float64),
            price_age_hours=age,
            suspect=suspect,
            quote_age_hours=np.array([one.quote_age_hours for one in known], dtype=np.float64),
            quoted=np.array([one.quoted for one in known], dtype=np.bool_),
            stale=np.array([one.stale for one in known], dtype=np.bool_),
            rank=np.array([ranks[key] for key in keys], dtype=np.int64),
            underlyings=self._underlyings(symbols),
            expiries=self._expiries(places, row_of),
            underlying_symbol=tuple(symbols),
        )

    def _price_columns(self, kind: npt.NDArray[np.int8], symbol: Ints) -> tuple[Floats, Bools]:
        """Age of each instrument's price, of options their underlying's; whether it is suspect."""
        age, suspect = np.full(len(symbol), np.nan), np.zeros(len(symbol), dtype=np.bool_)
        perp = kind == PERP
        for marks, own in ((self._marks.perpetual, perp), (self._marks.spot, ~perp)):
            at = np.flatnonzero(own & (symbol >= 0))
            age[at], suspect[at] = marks.age_hours[symbol[at]], marks.suspect[symbol[at]]
        return age, suspect

    def _name(self, symbol: int) -> str:
        """X of a symbol XUSDT, but where the market has a symbol X as well."""
        full = self._view.symbols[symbol]
        short = full.removesuffix("USDT")
        return full if not short or short in self._index else short

    def _underlyings(self, symbols: list[int]) -> Underlyings:
        row = np.array(symbols, dtype=np.int64)
        perp_price = self._marks.perpetual.price[row]
        spots = [self._quote(self._view.symbols[symbol]) for symbol in symbols]
        perps = [self._quote(f"{self._view.symbols[symbol]}-PERP") for symbol in symbols]
        return Underlyings(
            name=tuple(self._name(symbol) for symbol in symbols),
            spot=self._marks.spot.price[row],
            spot_confidence=_confidences(spots),
            perp_price=perp_price,
            perp_confidence=_confidences(perps),
            open_interest=np.array(
                [
                    np.nan
                    if perp is None or perp.open_interest is None
                    else perp.open_interest * price
                    for perp, price in zip(perps, perp_price.tolist(), strict=True)
                ],
                dtype=np.float64,
            ),
        )

    def _expiries(self, places: list[tuple[int, int]], row_of: dict[int, int]) -> Expiries:
        quotes = [self._places[place] for place in places]
        left = [(expiry - self._view.as_of) / SECOND for _, expiry in places]
        return Expiries(
            underlying=np.array([row_of[symbol] for symbol, _ in places], dtype=np.int64),
            seconds=np.array(left, dtype=np.float64),
            forward=np.array([quote.forward for quote in quotes], dtype=np.float64),
            rate=np.array([quote.rate for quote in quotes], dtype=np.float64),
            forward_confidence=np.array(
                [quote.forward_confidence for quote in quotes], dtype=np.float64
            ),
            vol_confidence=np.array([quote.vol_confidence for quote in quotes], dtype=np.float64),
        )


def _by_moment(board: QuoteBoard) -> dict[tuple[str, int], ExpiryQuote]:
    """Quotes of expiries by underlying and moment: ``BTC-7MAR26`` and ``BTC-07MAR26`` are one,
    and the newer of two quotes counts."""
    quoted: dict[tuple[str, int], ExpiryQuote] = {}
    for name, quote in sorted(board.expiries.items(), key=lambda item: (item[1].ts, item[0])):
        quoted[name.rpartition("-")[0], parse_expiry(name)] = quote
    return quoted


def _confidences(quotes: list[InstrumentQuote | None]) -> Floats:
    return np.array([1.0 if quote is None else quote.confidence for quote in quotes])
