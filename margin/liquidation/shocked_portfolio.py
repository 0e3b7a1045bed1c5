"""A portfolio at other prices, or with parts of its positions closed."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from margin.book.case_portfolio import CollateralBalance, Holding, Portfolio, Underlying
from margin.rules.ruleset import CollateralRules


def shock_portfolio(
    portfolio: Portfolio, underlying: str, multiple: float, rules: CollateralRules
) -> Portfolio:
    """Multiply one underlying's prices; `portfolio` itself is not changed.

    Spot, perpetual and every forward move together, and with them open interest, which is a
    notional, and collateral of that underlying: by its name, by that of the balance, or by the
    coin that the rule set says it moves with. Vols stay with their strikes. A position without an
    entry price has its entry at the price before the move.
    """
    before = portfolio.underlyings[underlying]
    return replace(
        portfolio,
        underlyings={**portfolio.underlyings, underlying: _shock_prices(before, multiple)},
        positions=tuple(
            _enter_at_price(position, before, multiple)
            if position.underlying == underlying
            else position
            for position in portfolio.positions
        ),
        collateral=tuple(
            replace(balance, price=balance.price * multiple)
            if _moves_with(balance, underlying, rules)
            else balance
            for balance in portfolio.collateral
        ),
    )


def reduce_positions(portfolio: Portfolio, shares: Sequence[float]) -> Portfolio:
    """Take away a share of each position; nothing is paid for it yet.

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
            _reduce(position, 1.0 - share)
            for position, share in zip(portfolio.positions, shares, strict=True)
        ),
    )


def notional_of(portfolio: Portfolio, position: Holding) -> float:
    """``|quantity| * price``: of the perpetual, else the spot; settlement currency."""
    underlying = portfolio.underlyings[position.underlying]
    return abs(position.quantity) * price_of(underlying, position)


def price_of(underlying: Underlying, position: Holding) -> float:
    """Price at which the notional of a position counts."""
    if position.kind == "perp" and underlying.perp_price is not None:
        return underlying.perp_price
    return underlying.spot


def _moves_with(balance: CollateralBalance, underlying: str, rules: CollateralRules) -> bool:
    names = {balance.asset, rules.coin(balance.asset) or balance.asset}
    return underlying in {balance.underlying, *names, *(f"{name}USDT" for name in names)}


def _shock_prices(underlying: Underlying, multiple: float) -> Underlying:
    perp, interest = underlying.perp_price, underlying.open_interest
    return replace(
        underlying,
        spot=underlying.spot * multiple,
        perp_price=None if perp is None else perp * multiple,
        open_interest=None if interest is None else interest * multiple,
        expiries=tuple(
            replace(expiry, forward=expiry.forward * multiple) for expiry in underlying.expiries
        ),
    )


def _enter_at_price(position: Holding, before: Underlying, multiple: float) -> Holding:
    if position.kind == "option" or position.entry_price is not None:
        return position
    price = price_of(before, position)
    if position.unrealised_pnl is None:
        return replace(position, entry_price=price)
    gained = position.quantity * (price * multiple - price)
    return replace(position, unrealised_pnl=position.unrealised_pnl + gained)


def _reduce(position: Holding, left: float) -> Holding:
    pnl = position.unrealised_pnl
    return replace(
        position,
        quantity=position.quantity * left,
        unrealised_pnl=None if pnl is None else pnl * left,
        unrealised_funding=position.unrealised_funding * left,
    )
