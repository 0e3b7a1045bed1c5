"""A change to a portfolio: deposits and trades at the mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from margin.book.case_portfolio import Holding, Portfolio, check_position
from margin.engines.registry import engine_of
from margin.rules.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Change:
    """What would change.

    Attributes
    ----------
    deposit:
        Cash paid in, settlement currency; negative for a withdrawal.
    trades:
        What would be bought, with `quantity` the amount added to the position (negative: sold). Of
        a position that is held only what names it counts: kind, underlying and, of an option,
        expiry, strike and type; a new option brings its vol.
    """

    deposit: float = 0.0
    trades: tuple[Holding, ...] = field(default=())


def coin_settled(ruleset: RuleSet) -> bool:
    """Whether cash, profits and margins are in the coin of the underlying."""
    return engine_of(ruleset).settles_in_coin(ruleset)


def traded(portfolio: Portfolio, trades: Sequence[Holding], *, in_coin: bool = False) -> Portfolio:
    """The portfolio with its positions changed and its cash as it was.

    An increase enters at the mark, so that the unrealised profit or loss stays; a reduction keeps
    the share that is left of it, and a position that turns or closes keeps none. What a trade
    costs or brings is what the mark-to-market would change by: see
    `margin.what_if.outcome.outcomes`, which puts it into cash. `in_coin`: see `coin_settled`.

    Raises
    ------
    CaseError, InstrumentError
        The changed portfolio cannot be valued.
    """
    positions = list(portfolio.positions)
    moved: list[Holding] = []
    for trade in trades:
        key = leg_key(trade)
        same = [i for i, held in enumerate(positions) if leg_key(held) == key]
        if not same:
            moved.append(msgspec.structs.replace(trade, entry_price=None, unrealised_pnl=None))
            positions.append(moved[-1])
            continue
        netted = _netted([positions[i] for i in same], portfolio, in_coin)
        left = _changed(netted, trade.quantity)
        moved.append(left)
        positions[same[0]] = left
        for i in reversed(same[1:] if left.quantity != 0.0 else same):
            del positions[i]
    for position in moved:  # the others were checked with the portfolio
        check_position(position, portfolio.underlyings)
    return msgspec.structs.replace(portfolio, positions=tuple(positions))


def leg_key(holding: Holding) -> tuple[object, ...]:
    """What tells one position from another."""
    if holding.kind != "option":
        return (holding.kind, holding.underlying)
    return (
        holding.kind,
        holding.underlying,
        holding.seconds_to_expiry,
        holding.strike,
        holding.type,
    )


def mark_of(holding: Holding, portfolio: Portfolio) -> float:
    """Price of a linear position: of its perp or spot."""
    underlying = portfolio.underlyings[holding.underlying]
    if holding.kind == "perp" and underlying.perp_price is not None:
        return underlying.perp_price
    return underlying.spot


def unrealised(holding: Holding, portfolio: Portfolio, in_coin: bool = False) -> float:
    """Unrealised profit and loss of a linear position, funding apart; in coin that of ``size_usd =
    quantity * mark``, which is ``size_usd * (1 / entry - 1 / mark)``."""
    if holding.unrealised_pnl is not None:
        return holding.unrealised_pnl
    if holding.entry_price is None:
        return 0.0
    gained = holding.quantity * (mark_of(holding, portfolio) - holding.entry_price)
    return gained / holding.entry_price if in_coin else gained


def _netted(same: Sequence[Holding], portfolio: Portfolio, in_coin: bool) -> Holding:
    """Lines of one instrument as one: quantities and what they have gained add up."""
    first = same[0]
    quantity = sum(sorted(held.quantity for held in same))
    if first.kind == "option":
        return msgspec.structs.replace(first, quantity=quantity)
    return msgspec.structs.replace(
        first,
        quantity=quantity,
        entry_price=None,
        unrealised_pnl=sum(sorted(unrealised(held, portfolio, in_coin) for held in same)),
        unrealised_funding=sum(sorted(held.unrealised_funding for held in same)),
    )


def _changed(held: Holding, delta: float) -> Holding:
    quantity = held.quantity + delta
    if held.kind == "option" or held.unrealised_pnl is None:
        return msgspec.structs.replace(held, quantity=quantity)
    kept = 1.0
    if held.quantity * delta < 0.0:
        kept = max(0.0, quantity / held.quantity)
    return msgspec.structs.replace(
        held,
        quantity=quantity,
        unrealised_pnl=kept * held.unrealised_pnl,
        unrealised_funding=kept * held.unrealised_funding,
    )
