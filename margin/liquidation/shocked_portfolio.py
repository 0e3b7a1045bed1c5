"""A portfolio at other prices, or with parts of its positions closed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.rules.ruleset import CollateralRules


def moved(
    portfolio: Portfolio, underlying: str, multiple: float, rules: CollateralRules
) -> Portfolio:
    """The portfolio after one underlying's prices were multiplied.

    Spot, perpetual and every forward move together, and with them open interest, which is a
    notional, and collateral of that underlying: by its name, by that of the pledge, or by the coin
    that the rule set says it moves with. Vols stay with their strikes. A position without an entry
    price has its entry at the price before the move. `portfolio` is not changed.
    """
    before = portfolio.underlyings[underlying]
    return replace(
        portfolio,
        underlyings={**portfolio.underlyings, underlying: _priced(before, multiple)},
        positions=tuple(
            _carried(position, before, multiple) if position.underlying == underlying else position
            for position in portfolio.positions
        ),
        collateral=tuple(
            replace(pledge, price=pledge.price * multiple)
            if _moves_with(pledge, underlying, rules)
            else pledge
            for pledge in portfolio.collateral
        ),
    )


def reduced(portfolio: Portfolio, shares: Sequence[float]) -> Portfolio:
    """The portfolio with a share of each position gone; nothing is paid for it yet.

    Parameters
    ----------
    portfolio:
        Not changed.
    shares:
        Of each position, 0 to 1, in the order of `Portfolio.positions`.
    """
    return replace(
        portfolio,
        positions=tuple(
            _cut(position, 1.0 - share)
            for position, share in zip(portfolio.positions, shares, strict=True)
        ),
    )


def notional(portfolio: Portfolio, position: Holding) -> float:
    """``|quantity| * price``: of the perpetual, else the spot; settlement currency."""
    underlying = portfolio.underlyings[position.underlying]
    return abs(position.quantity) * price_of(underlying, position)


def price_of(underlying: Underlying, position: Holding) -> float:
    """The price that a position's notional counts at."""
    if position.kind == "perp" and underlying.perp_price is not None:
        return underlying.perp_price
    return underlying.spot


def _moves_with(pledge: CollateralBalance, underlying: str, rules: CollateralRules) -> bool:
    names = {pledge.asset, rules.coin(pledge.asset) or pledge.asset}
    return underlying in {pledge.underlying, *names, *(f"{name}USDT" for name in names)}


def _priced(underlying: Underlying, multiple: float) -> Underlying:
    perp, interest = underlying.perp_price, underlying.open_interest
    return replace(
        underlying,
        spot=underlying.spot * multiple,
        perp_price=None if perp is None else perp * multiple,
        open_interest=None if interest is None else interest * multiple,
        expiries=tuple(_forwarded(expiry, multiple) for expiry in underlying.expiries),
    )


def _forwarded(expiry: Expiry, multiple: float) -> Expiry:
    return replace(expiry, forward=expiry.forward * multiple)


def _carried(position: Holding, before: Underlying, multiple: float) -> Holding:
    if position.kind == "option" or position.entry_price is not None:
        return position
    price = price_of(before, position)
    if position.unrealised_pnl is None:
        return replace(position, entry_price=price)
    gained = position.quantity * (price * multiple - price)
    return replace(position, unrealised_pnl=position.unrealised_pnl + gained)


def _cut(position: Holding, left: float) -> Holding:
    pnl = position.unrealised_pnl
    return replace(
        position,
        quantity=position.quantity * left,
        unrealised_pnl=None if pnl is None else pnl * left,
        unrealised_funding=position.unrealised_funding * left,
    )
