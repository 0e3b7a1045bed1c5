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
    """A deposit and trades.

    Attributes
    ----------
    deposit:
        Cash paid in, settlement currency; negative for a withdrawal.
    trades:
        `quantity` is the amount added to the position (negative: sold). Of an existing position
        only the identity counts: kind, underlying and, of an option, expiry, strike and type; a
        new option brings its vol.
    """

    deposit: float = 0.0
    trades: tuple[Holding, ...] = field(default=())


def coin_settled(ruleset: RuleSet) -> bool:
    """Whether cash, profits and margins are in the coin of the underlying."""
    return engine_of(ruleset).settles_in_coin(ruleset)


def apply_trades(
    portfolio: Portfolio, trades: Sequence[Holding], *, in_coin: bool = False
) -> Portfolio:
    """The portfolio with its positions changed and its cash as it was.

    An increase enters at the mark, so that the unrealised profit or loss stays; a reduction keeps
    the share that is left of it, and a position that turns or closes keeps none. The cost of a
    trade is the change of the mark-to-market: `margin.what_if.outcome.outcomes` puts it into cash.
    `in_coin`: see `coin_settled`.

    Raises
    ------
    CaseError, InstrumentError
        The changed portfolio cannot be valued.
    """
    positions = list(portfolio.positions)
    changed: list[Holding] = []
    for trade in trades:
        key = leg_key(trade)
        same = [i for i, position in enumerate(positions) if leg_key(position) == key]
        if not same:
            changed.append(msgspec.structs.replace(trade, entry_price=None, unrealised_pnl=None))
            positions.append(changed[-1])
            continue
        netted = _net([positions[i] for i in same], portfolio, in_coin)
        left = _resize(netted, trade.quantity)
        changed.append(left)
        positions[same[0]] = left
        for i in reversed(same[1:] if left.quantity != 0.0 else same):
            del positions[i]
    for position in changed:  # the others were checked with the portfolio
        check_position(position, portfolio.underlyings)
    return msgspec.structs.replace(portfolio, positions=tuple(positions))


def leg_key(holding: Holding) -> tuple[object, ...]:
    """Identity of a position within a portfolio."""
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


def _net(same: Sequence[Holding], portfolio: Portfolio, in_coin: bool) -> Holding:
    """Lines of one instrument as one: quantities and what they have gained add up."""
    first = same[0]
    quantity = sum(sorted(line.quantity for line in same))
    if first.kind == "option":
        return msgspec.structs.replace(first, quantity=quantity)
    return msgspec.structs.replace(
        first,
        quantity=quantity,
        entry_price=None,
        unrealised_pnl=sum(sorted(unrealised(line, portfolio, in_coin) for line in same)),
        unrealised_funding=sum(sorted(line.unrealised_funding for line in same)),
    )


def _resize(position: Holding, delta: float) -> Holding:
    quantity = position.quantity + delta
    if position.kind == "option" or position.unrealised_pnl is None:
        return msgspec.structs.replace(position, quantity=quantity)
    share = 1.0
    if position.quantity * delta < 0.0:
        share = max(0.0, quantity / position.quantity)
    return msgspec.structs.replace(
        position,
        quantity=quantity,
        unrealised_pnl=share * position.unrealised_pnl,
        unrealised_funding=share * position.unrealised_funding,
    )
