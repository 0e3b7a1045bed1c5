"""What instruments cost in a market, selected once for all books in it.

Spot and perpetuals of every symbol are priced as arrays, so that the table of a book of them is a
selection of rows. Options are priced one by one, for the books that hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import PERP, SPOT, Expiries, InstrumentTable, Underlyings
from margin.valuation.marks import MarketMarks, suspect_view
from margin.valuation.view import MarketView
from market.core.arrays import Bools, Floats, Ints
from market.core.identity_cache import IdentityCache
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard


@dataclass(frozen=True, slots=True)
class SymbolNames:
    """Names of S symbols.

    Attributes
    ----------
    short:
        X of a symbol XUSDT, but where there is a symbol X as well, length S.
    order:
        Place of each symbol by its short name, shape (S,).
    linear:
        Row of each perpetual and spot in `LinearPrices`.
    """

    short: tuple[str, ...]
    order: Ints
    linear: dict[str, int]

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, symbols: tuple[str, ...]) -> SymbolNames:
        """The names of some symbols; kept."""
        known = set(symbols)
        bare = [symbol.removesuffix("USDT") for symbol in symbols]
        short = tuple(
            symbol if not name or name in known else name
            for symbol, name in zip(symbols, bare, strict=True)
        )
        order = np.empty(len(symbols), dtype=np.int64)
        order[sorted(range(len(symbols)), key=short.__getitem__)] = np.arange(len(symbols))
        identifiers = [f"{symbol}-PERP" for symbol in symbols] + list(symbols)
        return cls(short, order, {name: row for row, name in enumerate(identifiers)})


@dataclass(frozen=True, slots=True)
class LinearPrices:
    """Perpetuals of S symbols, then their spot; every array of shape (2 S,), as in
    `InstrumentTable`."""

    valued: Bools
    kind: npt.NDArray[np.int8]
    symbol: Ints
    price: Floats
    price_age_hours: Floats
    suspect: Bools
    quoted: Bools
    stale: Bools


class MarketPrices:
    """Prices of one market.

    Attributes
    ----------
    view:
        The market.
    marks:
        Its mark prices.
    names:
        Of its symbols.
    board:
        Its quotes, empty where there are none.
    """

    def __init__(self, view: MarketView) -> None:
        self.view, self.marks = view, MarketMarks(view)
        self.names = SymbolNames.of(view.symbols)
        self.board = QuoteBoard() if view.quotes is None else view.quotes

    @cached_property
    def expiry_quotes(self) -> dict[tuple[str, int], ExpiryQuote]:
        """Quotes of expiries by underlying and time: ``BTC-7MAR26`` and ``BTC-07MAR26`` are one,
        and the newer of two quotes counts."""
        quoted: dict[tuple[str, int], ExpiryQuote] = {}
        by_time = sorted(self.board.expiries.items(), key=lambda item: (item[1].ts, item[0]))
        for name, quote in by_time:
            quoted[name.rpartition("-")[0], parse_expiry(name)] = quote
        return quoted

    @cached_property
    def suspect_view(self) -> MarketView | None:
        """The market at the prices that wait for confirmation, see `suspect_view`."""
        return suspect_view(self.view)

    @cached_property
    def linear(self) -> LinearPrices:
        """Prices of all perpetuals and spot."""
        marks, count = self.marks, len(self.view.symbols)
        spot, perpetual = marks.spot, marks.perpetual
        spot_priced = (spot.price > 0.0) & (spot.price < np.inf)
        perpetual_priced = (perpetual.price > 0.0) & (perpetual.price < np.inf)
        return LinearPrices(
            np.concatenate([spot_priced & perpetual_priced, spot_priced]),
            np.repeat(np.array([PERP, SPOT], dtype=np.int8), count),
            np.tile(np.arange(count), 2),
            np.concatenate([perpetual.price, spot.price]),
            np.concatenate([perpetual.age_hours, spot.age_hours]),
            np.concatenate([perpetual.suspect, spot.suspect]),
            np.concatenate([perpetual.quoted, spot.quoted]),
            np.concatenate([perpetual.stale, spot.stale]),
        )

    @cached_property
    def _underlyings(self) -> Underlyings:
        """Every symbol as an underlying."""
        quotes, price = self.board.instruments, self.marks.perpetual.price
        spots = [quotes.get(symbol) for symbol in self.view.symbols]
        perps = [quotes.get(f"{symbol}-PERP") for symbol in self.view.symbols]
        interest = [
            np.nan if perp is None or perp.open_interest is None else perp.open_interest * mark
            for perp, mark in zip(perps, price.tolist(), strict=True)
        ]
        return Underlyings(
            self.names.short,
            self.marks.spot.price,
            _confidences(spots),
            price,
            _confidences(perps),
            np.array(interest, dtype=np.float64),
        )

    def underlyings(self, symbols: Ints) -> Underlyings:
        """Chosen symbols as underlyings, in the order given."""
        every = self._underlyings
        return Underlyings(
            tuple([every.name[symbol] for symbol in symbols.tolist()]),
            every.spot[symbols],
            every.spot_confidence[symbols],
            every.perp_price[symbols],
            every.perp_confidence[symbols],
            every.open_interest[symbols],
        )

    def by_name(self, symbols: Ints) -> Ints:
        """Distinct symbols in the order of their short names."""
        order = np.unique(self.names.order[symbols])
        found = np.empty(len(self.names.order), dtype=np.int64)
        found[self.names.order] = np.arange(len(found))
        chosen: Ints = found[order]
        return chosen

    def linear_table(self, names: tuple[str, ...], assets: list[int]) -> InstrumentTable | None:
        """The table of some perpetuals and spot, each once, with the underlyings of the symbols of
        assets as well; None where another instrument or one without a price is among them."""
        places = [self.names.linear.get(name, -1) for name in names]
        if -1 in places:
            return None
        linear, at = self.linear, np.array(places, dtype=np.int64)
        if not linear.valued[at].all():
            return None
        kind, symbol = linear.kind[at], linear.symbol[at]
        held = np.concatenate([symbol, np.array(assets, dtype=np.int64)]) if assets else symbol
        symbols = self.by_name(held)
        order = self.names.order
        underlying = np.searchsorted(order[symbols], order[symbol])
        key = 2 * underlying + kind
        count = len(places)
        unknown = np.full(count, np.nan)
        return InstrumentTable(
            row={name: row for row, name in enumerate(names)},
            errors={},
            valued=np.ones(count, dtype=np.bool_),
            kind=kind,
            underlying=underlying,
            expiry=np.full(count, -1, dtype=np.int64),
            strike=unknown,
            vol=unknown,
            call=np.zeros(count, dtype=np.bool_),
            symbol=symbol,
            price=linear.price[at],
            price_age_hours=linear.price_age_hours[at],
            suspect=linear.suspect[at],
            quote_age_hours=np.zeros(count),
            quoted=linear.quoted[at],
            stale=linear.stale[at],
            rank=np.searchsorted(np.sort(key), key),
            underlyings=self.underlyings(symbols),
            expiries=_NO_EXPIRIES,
            underlying_symbol=tuple(symbols.tolist()),
            marks=self.marks,
        )


_NO_EXPIRIES = Expiries(np.zeros(0, dtype=np.int64), *(np.zeros(0) for _ in range(5)))

_markets: IdentityCache[MarketPrices] = IdentityCache(8)


def market_prices(view: MarketView) -> MarketPrices:
    """The prices of a market; kept for the newest few views."""
    return _markets.get((view,), lambda: MarketPrices(view))


def _confidences(quotes: list[InstrumentQuote | None]) -> Floats:
    return np.array([1.0 if quote is None else quote.confidence for quote in quotes])
