"""The difference between two results by cause: positions, prices, parameters."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from margin.book.case_portfolio import CollateralBalance, History, Holding, Portfolio, Underlying
from margin.rules.ruleset import RuleSet
from margin.what_if.outcome import margins_of
from margin.what_if.trades import coin_settled, leg_key
from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Step:
    """What one kind of change did, settlement currency.

    Attributes
    ----------
    name:
        ``positions`` (cash and collateral amounts included), ``prices`` (time included) or
        ``parameters``.
    mark_to_market, initial_net_margin, maintenance_net_margin:
        After the step less before it: over the steps they add up to the whole change.
    """

    name: str
    mark_to_market: float
    initial_net_margin: float
    maintenance_net_margin: float


def difference(
    before: Portfolio,
    rules_before: RuleSet,
    after: Portfolio,
    rules_after: RuleSet,
    elapsed_seconds: float = 0.0,
) -> tuple[Step, ...]:
    """Attribute the change of an account's figures, one step after the other.

    From the earlier portfolio: first the positions, the cash and the collateral become the later
    ones at the earlier prices, then prices, vols, rates and the time left become the later ones,
    then the rules. What only the later portfolio knows the price of is valued at that price from
    the first step on. Another order would share the joint effects out otherwise; this one is
    fixed, and the steps add up.

    Parameters
    ----------
    before, after:
        Checked, of the same account.
    rules_before, rules_after:
        The rules of each.
    elapsed_seconds:
        Between the two: an expiry of the later one had so much longer to go. 0 or more.

    Raises
    ------
    CaseError
        The elapsed time is negative or not finite.
    """
    if not 0.0 <= elapsed_seconds < float("inf"):
        raise CaseError(
            f"elapsed_seconds is {elapsed_seconds}; expected 0 or more, the earlier result first"
        )
    in_coin = coin_settled(rules_before)
    repriced = _at_prices_of(before, after, elapsed_seconds, in_coin)
    (start,) = margins_of([before], rules_before)
    (traded,) = margins_of([repriced], rules_before)
    (priced,) = margins_of([after], rules_before)
    (end,) = margins_of([after], rules_after)
    legs = (("positions", start, traded), ("prices", traded, priced), ("parameters", priced, end))
    return tuple(
        Step(name, *(late - early for early, late in zip(first, last, strict=True)))
        for name, first, last in legs
    )


def _at_prices_of(before: Portfolio, after: Portfolio, elapsed: float, in_coin: bool) -> Portfolio:
    """The later portfolio at the earlier prices, as far as they are known."""
    underlyings = {
        name: _earlier_underlying(before.underlyings.get(name), later, elapsed)
        for name, later in after.underlyings.items()
    }
    vols = {leg_key(position): position.vol for position in before.positions}
    balances = {balance.asset: balance for balance in before.collateral}
    return Portfolio(
        after.cash,
        before.stable_price,
        underlyings,
        tuple(
            _earlier_position(position, before, after, vols, elapsed, in_coin)
            for position in after.positions
        ),
        tuple(_earlier_balance(late, balances.get(late.asset)) for late in after.collateral),
        _history(before, after),
    )


def _history(before: Portfolio, after: Portfolio) -> History | None:
    """The earlier history, unless it lacks days that the later one has for what is held."""
    early, late = before.history, after.history
    if early is None or late is None:
        return late if early is None else early
    needed = {position.underlying for position in after.positions} & set(late.closes)
    return early if needed <= set(early.closes) else late


def _earlier_underlying(before: Underlying | None, after: Underlying, elapsed: float) -> Underlying:
    known = {} if before is None else {one.seconds_to_expiry: one for one in before.expiries}
    expiries = []
    for late in after.expiries:
        left = late.seconds_to_expiry + elapsed
        expiries.append(known.get(left, msgspec.structs.replace(late, seconds_to_expiry=left)))
    base = after if before is None else before
    perp = after.perp_price if base.perp_price is None else base.perp_price
    return msgspec.structs.replace(base, perp_price=perp, expiries=tuple(expiries))


def _earlier_position(
    position: Holding,
    before: Portfolio,
    after: Portfolio,
    vols: dict[tuple[object, ...], float | None],
    elapsed: float,
    in_coin: bool,
) -> Holding:
    if position.kind != "option":
        return _linear(position, before, after, in_coin)
    left = None if position.seconds_to_expiry is None else position.seconds_to_expiry + elapsed
    position = msgspec.structs.replace(position, seconds_to_expiry=left)
    vol = vols.get(leg_key(position))
    return position if vol is None else msgspec.structs.replace(position, vol=vol)


def _linear(position: Holding, before: Portfolio, after: Portfolio, in_coin: bool) -> Holding:
    """Without the profit or loss that only the later price made. In coin it is ``size_usd``, the
    quantity times its mark, that stays, so that the quantity is another at the earlier price."""
    early = before.underlyings.get(position.underlying)
    if early is None or (position.unrealised_pnl is None and not in_coin):
        return position
    late = after.underlyings[position.underlying]
    if position.kind == "perp":
        start, end = early.perp_price, late.perp_price
    else:
        start, end = early.spot, late.spot
    if start is None or end is None:
        return position
    gain = position.quantity * (end - start)
    if in_coin:
        gain /= start
        position = msgspec.structs.replace(position, quantity=position.quantity * end / start)
    if position.unrealised_pnl is None:
        return position
    return msgspec.structs.replace(position, unrealised_pnl=position.unrealised_pnl - gain)


def _earlier_balance(
    balance: CollateralBalance, before: CollateralBalance | None
) -> CollateralBalance:
    if before is None:
        return balance
    return msgspec.structs.replace(balance, price=before.price, confidence=before.confidence)
