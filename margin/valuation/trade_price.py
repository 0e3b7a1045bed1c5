"""The price at which a trade leaves equity as it is: the one that the rules mark by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from margin.book.book_portfolios import book_portfolios
from margin.book.portfolio_batch import OPTION, PERP
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import leg_exposures
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position


@dataclass(frozen=True, slots=True)
class TradePrice:
    """Price of one unit, settlement currency; NaN where the instrument cannot be valued.

    Attributes
    ----------
    price:
        The mark; of an option its value.
    premium:
        Whether it is paid in cash, as of an option, or only entered at.
    """

    price: float
    premium: bool = False


def trade_price(instrument: str, view: MarketView, ruleset: RuleSet) -> TradePrice:
    """The price of an instrument in a market under a rule set: of spot and perps that of
    `margin.valuation.marks`, of an option its value at its vol."""
    one = Account("what-if", 0.0, (Position(instrument, 1.0),))
    engine = engine_of(ruleset)
    held = book_portfolios(Book.of([one]), view, ruleset.collateral, options=engine.margins_options)
    if held.problems.found:
        return TradePrice(math.nan)
    kind, on = held.portfolios.kind[0], held.portfolios.underlyings
    if kind == OPTION:
        exposures = leg_exposures(held.portfolios, discounted=engine.discounts_options)
        return TradePrice(float(exposures.value[0]), premium=True)
    row = held.portfolios.underlying[0]
    return TradePrice(float((on.perp_price if kind == PERP else on.spot)[row]))
