"""Inputs of the what-if page as its query has them, and the request that they make.

``account``: id; ``p``: price change of all coins, per cent; ``p.BTC``: of one coin, instead
(empty: as all);
``v``: change of implied volatility, per cent; ``d``: deposit, negative to withdraw;
``c.INSTRUMENT``: per cent of a position to close; ``t1``, ``q1`` to ``t5``, ``q5``: instrument and
signed quantity of new trades; ``l``: instrument of the largest trade; ``target``: headroom of the
remedies; ``heat``: ``headroom``, ``probability`` or ``off``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from decisions.errors import RequestError
from decisions.messages import AccountChange, PositionChange
from margin.what_if.shocks import ALL, Shocks
from market.accounts.book import Account

TRADES = 5
"""Rows of new trades."""

_MOST = 1e15

HEAT = ("headroom", "probability", "off")
"""What the heat map shows."""


@dataclass(frozen=True, slots=True)
class WhatIfInputs:
    """Inputs of the page.

    Attributes
    ----------
    shocks:
        Of the market.
    changes:
        Of the account; at most one.
    target:
        Headroom of the remedies; None: the add-on of the account.
    largest:
        Instrument of the largest trade; None: it is not sought.
    heat:
        One of `HEAT`.
    """

    shocks: Shocks
    changes: list[AccountChange]
    target: float | None
    largest: str | None
    heat: str


def read_inputs(query: Mapping[str, str], account: Account) -> WhatIfInputs:
    """Inputs of a query for an account.

    Raises
    ------
    RequestError
        A value is no number, or out of its bounds.
    """
    spot = {
        name.removeprefix("p."): _number(query, name) / 100.0
        for name in query
        if name.startswith("p.") and query[name].strip()
    }
    if "p" in query:
        spot[ALL] = _number(query, "p") / 100.0
    try:
        shocks = msgspec.convert({"spot": spot, "volatility": _number(query, "v") / 100.0}, Shocks)
    except msgspec.ValidationError as error:
        raise RequestError(f"a shock is impossible: {error}; give -99 to 1000 per cent") from None
    heat = query.get("heat", HEAT[0])
    if heat not in HEAT:
        raise RequestError(f"heat is {heat!r}; give one of {', '.join(HEAT)}")
    deltas = [*_cuts(query, account), *_trades(query)]
    deposit = _number(query, "d")
    changes = []
    if deposit or deltas:
        changes = [AccountChange(account.account_id, deposit, deltas)]
    target = _number(query, "target") if query.get("target") else None
    return WhatIfInputs(shocks, changes, target, query.get("l") or None, heat)


def _cuts(query: Mapping[str, str], account: Account) -> list[PositionChange]:
    cuts = []
    for position in account.positions:
        share = _number(query, f"c.{position.instrument}")
        if not 0.0 <= share <= 100.0:
            raise RequestError(
                f"c.{position.instrument} is {share:g}; give 0 to 100 per cent of the position"
            )
        if share:
            delta = -position.quantity * (share / 100.0)
            cuts.append(PositionChange(position.instrument, delta))
    return cuts


def _trades(query: Mapping[str, str]) -> list[PositionChange]:
    trades = []
    for row in range(1, TRADES + 1):
        instrument, quantity = query.get(f"t{row}", "").strip(), _number(query, f"q{row}")
        if instrument and quantity:
            trades.append(PositionChange(instrument, quantity))
    return trades


def _number(query: Mapping[str, str], name: str) -> float:
    text = query.get(name, "").strip()
    try:
        value = float(text) if text else 0.0
    except ValueError:
        value = math.nan
    if not abs(value) <= _MOST:
        raise RequestError(f"{name} is {text[:40]!r}; give a number from -1e15 to 1e15")
    return value
