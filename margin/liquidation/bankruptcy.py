"""Bankruptcy price of one position: where its balance and its profit are together nothing."""

from __future__ import annotations

import math

from margin.liquidation.position import check_position


def bankruptcy_price(
    quantity: float, entry_price: float, balance: float, *, fee_rate: float = 0.0
) -> float | None:
    """Price p with ``balance + q (p - entry) - fee |q| p = 0`` of a linear position.

    ``p = (q entry - balance) / (q - fee |q|)``.

    Parameters
    ----------
    quantity:
        Signed, units of the underlying.
    entry_price:
        Settlement currency.
    balance:
        Isolated: the margin of the position. Cross: what is left of the account without its
        profit, ``wallet + profit of the others``. Less a maintenance margin that does not move
        with the price, it gives the liquidation price of venues that fix the margin at entry.
    fee_rate:
        Paid on the notional at the close.

    Returns
    -------
    None where no price above 0 does it: a long that is paid for in full, or a short that owes
    more than it could earn.

    Raises
    ------
    CaseError
        A number is not finite, the quantity is 0 or the entry price not above 0.

    References
    ----------
    Bybit Help Center, "Liquidation Price (USDT Contract)"; Binance, "Liquidation Protocols".
    """
    check_position(quantity, entry_price, balance)
    slope = quantity - fee_rate * abs(quantity)
    return None if slope == 0.0 else _above_zero((quantity * entry_price - balance) / slope)


def inverse_bankruptcy_price(
    size: float, entry_price: float, balance: float, *, fee_rate: float = 0.0
) -> float | None:
    """Price p with ``balance + size (1/entry - 1/p) - fee |size| / p = 0`` of a coin-settled one.

    ``p = (size + fee |size|) / (balance + size / entry)``.

    Parameters
    ----------
    size:
        Signed, in units of the quote (contracts times their value).
    entry_price:
        Quote per coin.
    balance:
        In coin; as in `bankruptcy_price`.
    fee_rate:
        Paid on the value at the close.

    Returns
    -------
    None where no price does it: a short whose balance in coin is worth its size already.

    References
    ----------
    Bybit Help Center, "How to calculate Liquidation Price (Inverse Contract)".
    """
    check_position(size, entry_price, balance)
    coins = balance + size / entry_price
    return None if coins == 0.0 else _above_zero((size + fee_rate * abs(size)) / coins)


def _above_zero(price: float) -> float | None:
    return price if 0.0 < price < math.inf else None
