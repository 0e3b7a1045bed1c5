"""A market after price and volatility shocks, for the decisions that would follow in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from decisions.errors import RequestError
from decisions.what_if.changes import Prices
from features.state.snapshot import MarketSnapshot
from margin.what_if.shocks import Shocks, shock_quotes
from market.accounts.book import Account
from market.core.errors import DataError


def shock_market(snapshot: MarketSnapshot, shocks: Shocks) -> MarketSnapshot:
    """A market at whose marks and option surfaces accounts are valued after shocks.

    Bar closes and quoted marks of a coin, its forwards and, with the volatility shock, all implied
    vols move (`margin.what_if.shocks.shock_quotes`), also those that wait for confirmation. All
    else stays: times and ages, daily closes, and the features of the market with their
    volatilities and correlations. So margins, equity and headroom follow the shock, and the model
    is asked with the new distance to a call at the volatility forecast before the shock.

    Parameters
    ----------
    snapshot:
        Not changed; returned as it is where nothing moves.
    shocks:
        Relative changes.

    Raises
    ------
    RequestError
        A coin is not in the market, or is named twice.
    """
    symbols = snapshot.features.symbols
    try:
        shocks.check(symbols)
    except DataError as error:
        raise RequestError(str(error)) from None
    if not shocks.moves:
        return snapshot
    multiple = np.array([shocks.multiple(symbol) for symbol in symbols])
    suspect, quotes = snapshot.suspect_mark, snapshot.quotes
    return replace(
        snapshot,
        mark=snapshot.mark * multiple,
        suspect_mark=None if suspect is None else suspect * multiple,
        quotes=None if quotes is None else shock_quotes(quotes, shocks, symbols),
    )


def enter_before_shock(accounts: Mapping[str, Account], prices: Prices) -> dict[str, Account]:
    """Accounts whose spot and perpetual positions all have entry prices.

    A position without one has entered at the mark: at the one before a shock, for else the shock
    would change nothing of its profit.

    Parameters
    ----------
    accounts:
        By id.
    prices:
        Before the shock, see `decisions.what_if.changes.trade_prices`; a position without a price
        stays as it is, and the decision on its account says what is wrong.
    """
    return {name: _entered(account, prices) for name, account in accounts.items()}


def _entered(account: Account, prices: Prices) -> Account:
    positions = list(account.positions)
    for i, position in enumerate(positions):
        if position.entry_price is None:
            at = prices(position.instrument)
            if not at.premium and math.isfinite(at.price):
                positions[i] = replace(position, entry_price=at.price)
    return replace(account, positions=tuple(positions))
