"""The largest loss that the options of one expiry can bring at settlement."""

from __future__ import annotations

from numba import njit

DUST = 1e-12
"""Share of an expiry's largest quantity under which a leg is what rounding left of a closed
position: its strike is not looked at."""


@njit(cache=True, error_model="numpy")
def option_payoff(price, quantity, strike, call):  # type: ignore[no-untyped-def]
    """Payoff of a position at a settlement price: ``quantity * max(+-(price - strike), 0)``."""
    inner = price - strike if call else strike - price
    return quantity * inner if inner > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def worst_settlement(begin, end, quantity, strike, call):  # type: ignore[no-untyped-def]
    """Where the options in rows `begin` to `end` lose most, and what they pay there.

    The payoff is linear between strikes, so its minimum over the prices up to the highest strike
    is at 0 or at a strike; what calls short on balance lose above it is `unpaired calls`, the
    caller's affair. Of equal prices the lowest counts.

    Parameters
    ----------
    begin, end:
        Rows of one expiry.
    quantity, strike, call:
        Of all legs, shape (L,).

    Returns
    -------
    Settlement price, payoff there (quote currency, not capped), and the calls on balance.
    """
    largest = 0.0
    calls = 0.0
    for leg in range(begin, end):
        largest = max(largest, abs(quantity[leg]))
        if call[leg]:
            calls += quantity[leg]
    worst_price = 0.0
    worst = _payoff(0.0, begin, end, quantity, strike, call)
    for at in range(begin, end):
        if abs(quantity[at]) > DUST * largest:
            payoff = _payoff(strike[at], begin, end, quantity, strike, call)
            if payoff < worst:
                worst = payoff
                worst_price = strike[at]
    if abs(calls) <= DUST * largest:
        calls = 0.0
    return worst_price, worst, calls


@njit(cache=True, error_model="numpy")
def _payoff(price, begin, end, quantity, strike, call):  # type: ignore[no-untyped-def]
    payoff = 0.0
    for leg in range(begin, end):
        payoff += option_payoff(price, quantity[leg], strike[leg], call[leg])
    return payoff
