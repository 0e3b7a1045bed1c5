"""The instruments of a book in a market: each is looked up and priced once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, SPOT, Expiries, InstrumentTable
from margin.valuation.market_prices import MarketPrices, market_prices
from margin.valuation.marks import POST_IT, option_vol
from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import HOUR, SECOND
from market.core.errors import InstrumentError
from market.core.instruments import Instrument, parse_instrument
from market.quotes.quotes import ExpiryQuote, InstrumentQuote


def price_instruments(
    names: Iterable[str], assets: Iterable[str], view: MarketView, *, options: bool = True
) -> InstrumentTable:
    """Price instruments, and the underlyings of collateral assets, in a market.

    A symbol XUSDT is of the underlying X. Spot and perp have the prices of
    `margin.valuation.marks`; open interest counts at the price of the perp, like its positions.
    The underlying of an option on X is symbol X where the market has it, else XUSDT; its forward,
    rate and confidences are those of its expiry's quote, its vol is that of
    `margin.valuation.marks.option_vol`.

    Parameters
    ----------
    names:
        Identifiers of instruments.
    assets:
        Collateral that is not cash: asset X is on the underlying of XUSDT, if there is one.
    view:
        The market, quotes included.
    options:
        Whether the rules margin options; where they do not, an option cannot be valued.
    """
    market = market_prices(view)
    instruments = tuple(dict.fromkeys(names))
    found = [market.marks.find_price(asset, f"{asset}USDT")[0] for asset in dict.fromkeys(assets)]
    symbols = [symbol for symbol in found if symbol >= 0]
    table = market.linear_table(instruments, symbols)
    if table is not None:
        return table
    builder = _TableBuilder(market, symbols, options=options)
    for name in instruments:
        builder.add(name)
    return builder.table()


@dataclass(frozen=True, slots=True)
class _PricedInstrument:
    """One instrument that can be valued; `place` is its expiry's, None for spot and perps."""

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


class _TableBuilder:
    """Collects the instruments of a book and what they refer to."""

    def __init__(self, market: MarketPrices, symbols: Iterable[int], *, options: bool) -> None:
        self._market, self._options = market, options
        self._view, self._marks = market.view, market.marks
        self._instruments: dict[str, _PricedInstrument | None] = {}
        self._errors: dict[str, str] = {}
        self._symbols: set[int] = set(symbols)
        self._places: dict[tuple[int, int], ExpiryQuote] = {}

    def add(self, name: str) -> None:
        try:
            instrument = self._price(parse_instrument(name))
        except InstrumentError as error:
            self._instruments[name], self._errors[name] = None, str(error)
            return
        self._instruments[name] = instrument
        self._symbols.add(instrument.symbol)

    def _price(self, instrument: Instrument) -> _PricedInstrument:
        if instrument.kind == "option":
            return self._price_option(instrument)
        symbol = self._symbol_row(instrument.id, instrument.symbol)
        perpetual = instrument.kind != "spot"
        if perpetual:
            self._symbol_row(instrument.id, instrument.symbol, perpetual=True)
        marks = self._marks.perpetual if perpetual else self._marks.spot
        return _PricedInstrument(
            PERP if perpetual else SPOT,
            symbol,
            float(marks.price[symbol]),
            quoted=bool(marks.quoted[symbol]),
            stale=bool(marks.stale[symbol]),
        )

    def _price_option(self, instrument: Instrument) -> _PricedInstrument:
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
        symbol = self._symbol_row(name, on if on in self._marks.row else f"{on}USDT")
        if expiry <= self._view.as_of:
            raise InstrumentError(
                f"option {name!r} has expired; settle it and take the position out", name
            )
        quote = self._market.expiry_quotes.get((on, expiry))
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
        vol = option_vol(strike, expiry, self._quote(name), quote)
        if vol is None:
            raise InstrumentError(
                f"option {name!r} has no vol, neither its own nor one of its expiry "
                f"{instrument.expiry_id}; {POST_IT}",
                name,
            )
        self._places[symbol, expiry] = quote
        age = (self._view.as_of - min(quote.ts, vol[1])) / HOUR
        return _PricedInstrument(
            OPTION,
            symbol,
            place=(symbol, expiry),
            strike=strike,
            vol=vol[0],
            call=call,
            quote_age_hours=age,
            stale=not age <= self._marks.oldest_hours,
        )

    def _symbol_row(self, name: str, symbol: str, *, perpetual: bool = False) -> int:
        row, error = self._marks.find_price(name, symbol, perpetual=perpetual)
        if error:
            raise InstrumentError(error, name)
        return row

    def _quote(self, name: str) -> InstrumentQuote | None:
        return self._market.board.instruments.get(name)

    def table(self) -> InstrumentTable:
        symbols = self._market.by_name(np.array(list(self._symbols), dtype=np.int64)).tolist()
        row_of = {symbol: i for i, symbol in enumerate(symbols)}
        places = sorted(self._places, key=lambda place: (row_of[place[0]], place[1]))
        expiry_of = {place: i for i, place in enumerate(places)}
        priced = list(self._instruments.values())
        known = [_PricedInstrument(SPOT, -1) if one is None else one for one in priced]
        underlying = [row_of.get(one.symbol, -1) for one in known]
        expiry = [-1 if one.place is None else expiry_of[one.place] for one in known]
        symbol = np.array([one.symbol for one in known], dtype=np.int64)
        kind = np.array([one.kind for one in known], dtype=np.int8)
        age, suspect = self._price_columns(kind, symbol)
        keys = [
            (on, one.kind, place, 0.0 if one.place is None else one.strike, one.call)
            for one, on, place in zip(known, underlying, expiry, strict=True)
        ]
        ranks = {key: i for i, key in enumerate(sorted(set(keys)))}
        return InstrumentTable(
            row={name: i for i, name in enumerate(self._instruments)},
            errors=self._errors,
            valued=np.array([one is not None for one in priced], dtype=np.bool_),
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
            underlyings=self._market.underlyings(np.array(symbols, dtype=np.int64)),
            expiries=self._expiries(places, row_of),
            underlying_symbol=tuple(symbols),
            marks=self._marks,
        )

    def _price_columns(self, kind: npt.NDArray[np.int8], symbol: Ints) -> tuple[Floats, Bools]:
        """Age of each instrument's price, of options their underlying's; whether it is suspect."""
        age, suspect = np.full(len(symbol), np.nan), np.zeros(len(symbol), dtype=np.bool_)
        perp = kind == PERP
        for marks, chosen in ((self._marks.perpetual, perp), (self._marks.spot, ~perp)):
            at = np.flatnonzero(chosen & (symbol >= 0))
            age[at], suspect[at] = marks.age_hours[symbol[at]], marks.suspect[symbol[at]]
        return age, suspect

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
