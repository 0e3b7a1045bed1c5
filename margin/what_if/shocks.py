"""Price and volatility shocks: what a stress moves in quotes and in portfolios."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from margin.book.case_portfolio import Portfolio
from margin.liquidation.shocked_portfolio import shock_portfolio
from margin.rules.ruleset import CollateralRules
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

ALL = "*"
"""Name of the shock of every coin that is not named itself."""

_MOST_COINS = 1_000

Relative = Annotated[float, Meta(ge=-0.99, le=10.0)]
"""Relative change: -0.1 is a fall by a tenth."""


class Shocks(Struct, frozen=True, forbid_unknown_fields=True):
    """Relative changes of prices and of implied volatility."""

    spot: Annotated[dict[str, Relative], Meta(max_length=_MOST_COINS)] = {}
    """Change of a coin's prices by its name (`BTC`) or symbol (`BTCUSDT`), -0.99 to 10; `*` is that
    of all coins not named. Spot, perpetual and forwards move together."""
    volatility: Relative = 0.0
    """Change of every implied volatility, -0.99 to 10: 0.2 makes 50% into 60%."""

    @property
    def moves(self) -> bool:
        """Whether anything changes."""
        return self.volatility != 0.0 or any(self.spot.values())

    def multiple(self, name: str) -> float:
        """Factor on the prices of a coin, or of its symbol."""
        coin = coin_of(name)
        for known in (name, coin, f"{coin}USDT"):
            if known in self.spot:
                return 1.0 + self.spot[known]
        return 1.0 + self.spot.get(ALL, 0.0)

    def check(self, symbols: Iterable[str]) -> None:
        """Check that every coin is one of the market, and named once.

        Parameters
        ----------
        symbols:
            Of the market.

        Raises
        ------
        DataError
            A coin is not, or is named both as a coin and by its symbol.
        """
        coins = {coin_of(symbol) for symbol in symbols}
        named = [name for name in self.spot if name != ALL]
        if unknown := sorted(name for name in named if coin_of(name) not in coins):
            raise DataError(
                f"shocks.spot names {', '.join(map(repr, unknown[:5]))}, which the market does not "
                f"have; give coins or symbols of the market, like {sorted(coins)[:3]}, or {ALL!r}"
            )
        if len({coin_of(name) for name in named}) < len(named):
            raise DataError("shocks.spot names a coin twice, by its name and by its symbol")


def coin_of(symbol: str) -> str:
    """The coin of a symbol: ``BTC`` of ``BTCUSDT``; a coin is its own."""
    return symbol.removesuffix("USDT") or symbol


def shock_quotes(board: QuoteBoard, shocks: Shocks, symbols: Iterable[str]) -> QuoteBoard:
    """Quotes after shocks; times, rates, confidences, funding and open interest stay.

    Marks of spot and perpetuals and forwards are multiplied, also those that wait for confirmation.
    Vols stay with their strikes and are then multiplied: those of options and by strike directly;
    of a raw SVI, ``w(k)`` with ``k = ln(K / F)``, m becomes ``m - ln(multiple)``, which keeps w at
    each strike, and a and b are multiplied by the square. Marks of options stay as they are, for
    options are valued by their forward and vol. Quotes of what is no symbol of the market (a cash
    asset) stay.

    Parameters
    ----------
    board:
        Not changed.
    shocks:
        Checked.
    symbols:
        Of the market.
    """
    coins = {coin_of(symbol) for symbol in symbols}
    vol = 1.0 + shocks.volatility
    instruments = {}
    for name, quote in board.instruments.items():
        instrument = parse_instrument(name)
        if coin_of(instrument.symbol) not in coins:
            instruments[name] = quote
        elif instrument.kind == "option":
            instruments[name] = replace(
                quote, vol=_times(quote.vol, vol), suspect_vol=_times(quote.suspect_vol, vol)
            )
        else:
            instruments[name] = _shock_mark(quote, shocks.multiple(instrument.symbol))
    expiries = {
        name: _shock_expiry(quote, shocks.multiple(name.partition("-")[0]), vol)
        if name.partition("-")[0] in coins
        else quote
        for name, quote in board.expiries.items()
    }
    return QuoteBoard(expiries, instruments)


def shock_case(portfolio: Portfolio, shocks: Shocks, rules: CollateralRules) -> Portfolio:
    """A portfolio after shocks, each underlying by `shock_portfolio`, vols of options multiplied.

    Raises
    ------
    DataError
        The shocks name what is no underlying of the portfolio.
    """
    shocks.check(portfolio.underlyings)
    for name in portfolio.underlyings:
        portfolio = shock_portfolio(portfolio, name, shocks.multiple(name), rules)
    vol = 1.0 + shocks.volatility
    return msgspec.structs.replace(
        portfolio,
        positions=tuple(
            position
            if position.vol is None
            else msgspec.structs.replace(position, vol=position.vol * vol)
            for position in portfolio.positions
        ),
    )


def _shock_mark(quote: InstrumentQuote, multiple: float) -> InstrumentQuote:
    return replace(
        quote,
        mark=_times(quote.mark, multiple),
        suspect_mark=_times(quote.suspect_mark, multiple),
    )


def _shock_expiry(quote: ExpiryQuote, multiple: float, vol: float) -> ExpiryQuote:
    return replace(
        quote,
        forward=quote.forward * multiple,
        suspect_forward=_times(quote.suspect_forward, multiple),
        svi=_shock_svi(quote.svi, multiple, vol),
        suspect_svi=_shock_svi(quote.suspect_svi, multiple, vol),
        vols={strike: value * vol for strike, value in quote.vols.items()},
        suspect_vols=None
        if quote.suspect_vols is None
        else {strike: value * vol for strike, value in quote.suspect_vols.items()},
    )


def _shock_svi(
    svi: tuple[float, float, float, float, float] | None, multiple: float, vol: float
) -> tuple[float, float, float, float, float] | None:
    if svi is None:
        return None
    a, b, rho, m, sigma = svi
    return a * vol**2, b * vol**2, rho, m - math.log(multiple), sigma


def _times(value: float | None, multiple: float) -> float | None:
    return None if value is None else value * multiple
