"""Portfolios of margin cases as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from msgspec import UNSET

from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.book.portfolio_batch import (
    OPTION,
    PERP,
    SPOT,
    CollateralBalances,
    Expiries,
    Portfolios,
    Underlyings,
)
from margin.rules.ruleset import CollateralRules
from market.bars.daily_closes import DailyCloses
from market.core.arrays import Floats, Ints
from market.core.errors import CaseError, InstrumentError

_KINDS = {"spot": SPOT, "perp": PERP, "option": OPTION}


def flatten(portfolios: Sequence[Portfolio], rules: CollateralRules) -> Portfolios:
    """Portfolios as arrays, each with its own market.

    Parameters
    ----------
    portfolios:
        Checked, see `margin.book.case_portfolio.check_portfolio`.
    rules:
        Cash assets, the haircuts of balances without their own, and what scenarios move.

    Raises
    ------
    CaseError
        They bring histories that differ.
    InstrumentError
        One option is given with two vols.
    """
    table = _Table()
    for portfolio in portfolios:
        table.add(portfolio, rules)
    return table.arrays(portfolios, rules)


class _Table:
    """Rows of underlyings, expiries and legs as they are collected."""

    def __init__(self) -> None:
        self.underlyings: list[tuple[str, Underlying]] = []
        self.expiries: list[tuple[int, Expiry]] = []
        self.legs: list[tuple[int, int, Holding, float, float, float]] = []
        self.balances: list[tuple[int, bool, CollateralBalance]] = []
        self.leg_counts: list[int] = []
        self.balance_counts: list[int] = []
        self.position_leg: list[int] = []

    def add(self, portfolio: Portfolio, rules: CollateralRules) -> None:
        rows: dict[str, int] = {}
        expiries: dict[tuple[str, float | None], int] = {}
        for name in sorted(portfolio.underlyings):
            underlying = portfolio.underlyings[name]
            rows[name] = len(self.underlyings)
            self.underlyings.append((name, underlying))
            for expiry in sorted(underlying.expiries, key=lambda one: one.seconds_to_expiry):
                expiries[name, expiry.seconds_to_expiry] = len(self.expiries)
                self.expiries.append((rows[name], expiry))
        keys = [_canonical(position) for position in portfolio.positions]
        places = {key: i for i, key in enumerate(sorted(set(keys)), len(self.legs))}
        merged: dict[tuple[object, ...], list[Holding]] = {}
        for key, position in zip(keys, portfolio.positions, strict=True):
            merged.setdefault(key, []).append(position)
            self.position_leg.append(places[key])
        for key in places:
            same = merged[key]
            first = same[0]
            underlying = portfolio.underlyings[first.underlying]
            expiry_row = expiries.get((first.underlying, first.seconds_to_expiry), -1)
            self.legs.append(
                (
                    rows[first.underlying],
                    expiry_row if first.kind == "option" else -1,
                    first,
                    *_net(same, underlying),
                )
            )
        self.leg_counts.append(len(places))
        underlyings = {position.underlying for position in portfolio.positions}
        self.balances += [
            _place_balance(balance, rows, underlyings, rules) for balance in portfolio.collateral
        ]
        self.balance_counts.append(len(portfolio.collateral))

    def arrays(self, portfolios: Sequence[Portfolio], rules: CollateralRules) -> Portfolios:
        first = [holding for _, _, holding, *_ in self.legs]
        return Portfolios(
            cash=_floats([portfolio.cash for portfolio in portfolios]),
            stable_price=_floats([portfolio.stable_price for portfolio in portfolios]),
            start=_offsets(self.leg_counts),
            name=tuple(holding.name for holding in first),
            kind=np.array([_KINDS[holding.kind] for holding in first], dtype=np.int8),
            underlying=_ints([row for row, *_ in self.legs]),
            expiry=_ints([row for _, row, *_ in self.legs]),
            quantity=_floats([quantity for *_, quantity, _, _ in self.legs]),
            strike=_floats([holding.strike for holding in first]),
            vol=_floats([holding.vol for holding in first]),
            call=np.array([holding.type == "call" for holding in first], dtype=np.bool_),
            unrealised=_floats([unrealised for *_, unrealised, _ in self.legs]),
            unrealised_inverse=_floats([unrealised for *_, unrealised in self.legs]),
            position_leg=_ints(self.position_leg),
            underlyings=self._underlyings(),
            expiries=self._expiries(),
            collateral=_flatten_balances(self.balances, self.balance_counts, rules),
            history=_shared_history(portfolios),
        )

    def _underlyings(self) -> Underlyings:
        table = [underlying for _, underlying in self.underlyings]
        return Underlyings(
            name=tuple(name for name, _ in self.underlyings),
            spot=_floats([one.spot for one in table]),
            spot_confidence=_floats([one.spot_confidence for one in table]),
            perp_price=_floats([one.perp_price for one in table]),
            perp_confidence=_floats([one.perp_confidence for one in table]),
            open_interest=_floats([one.open_interest for one in table]),
        )

    def _expiries(self) -> Expiries:
        table = [expiry for _, expiry in self.expiries]
        return Expiries(
            underlying=_ints([row for row, _ in self.expiries]),
            seconds=_floats([one.seconds_to_expiry for one in table]),
            forward=_floats([one.forward for one in table]),
            rate=_floats([one.rate for one in table]),
            forward_confidence=_floats(
                [min(one.confidence, one.forward_confidence) for one in table]
            ),
            vol_confidence=_floats([min(one.confidence, one.vol_confidence) for one in table]),
        )


def _flatten_balances(
    balances: Sequence[tuple[int, bool, CollateralBalance]],
    counts: Sequence[int],
    rules: CollateralRules,
) -> CollateralBalances:
    """Collateral as arrays: of each balance the row of its underlying and whether scenarios move
    it; `counts` is how many each portfolio has."""
    plain = [balance for *_, balance in balances]
    haircuts = [_haircuts(balance, rules) for balance in plain]
    cash = [rules.is_cash(one.asset) and one.maintenance_haircut is None for one in plain]
    return CollateralBalances(
        start=_offsets(counts),
        asset=tuple(balance.asset for balance in plain),
        underlying=_ints([row for row, *_ in balances]),
        amount=_floats([balance.amount for balance in plain]),
        price=_floats([balance.price for balance in plain]),
        confidence=_floats([balance.confidence for balance in plain]),
        maintenance_haircut=_floats([least for least, _ in haircuts]),
        initial_haircut=_floats([whole for _, whole in haircuts]),
        risk_cancelling=np.array([moves for _, moves, _ in balances], dtype=np.bool_),
        cash=np.array(cash, dtype=np.bool_),
        **_premiums(plain, rules),
    )


def _offsets(counts: Sequence[int]) -> Ints:
    """Where each of some runs starts and the last one ends, shape (len + 1,)."""
    out = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=out[1:])
    return out


def _shared_history(portfolios: Sequence[Portfolio]) -> DailyCloses | None:
    histories = [portfolio.history for portfolio in portfolios if portfolio.history is not None]
    if not histories:
        return None
    if any(history != histories[0] for history in histories):
        raise CaseError(
            "portfolios with different histories are margined together; margin each on its own, "
            "or give all of them the same"
        )
    return histories[0].daily_closes()


def _place_balance(
    balance: CollateralBalance,
    rows: Mapping[str, int],
    underlyings: Set[str],
    rules: CollateralRules,
) -> tuple[int, bool, CollateralBalance]:
    """Row of its underlying, whether scenarios move it, and the balance itself, in a portfolio
    with positions on some underlyings.

    A balance with a haircut of its own says that too; of others the rule set does.
    """
    row = -1 if balance.underlying is None else rows[balance.underlying]
    coin = rules.coin(balance.asset) if balance.maintenance_haircut is None else None
    for name in () if coin is None else (coin, f"{coin}USDT"):
        if name in underlyings:
            return rows[name], True, balance
    return row, balance.risk_cancelling, balance


def _canonical(position: Holding) -> tuple[object, ...]:
    if position.kind != "option":
        return (position.underlying, _KINDS[position.kind], -1.0, 0.0, False)
    return (
        position.underlying,
        OPTION,
        position.seconds_to_expiry,
        position.strike,
        position.type == "call",
    )


def _haircuts(balance: CollateralBalance, rules: CollateralRules) -> tuple[float, float]:
    """Of maintenance, and the whole one of initial margin: the balance's own, else the rule set's
    weights by size, else its haircuts."""
    if balance.maintenance_haircut is not None:
        return (
            balance.maintenance_haircut,
            balance.maintenance_haircut + balance.initial_extra_haircut,
        )
    extra = balance.initial_extra_haircut or rules.initial_extra_haircut(balance.asset)
    sized = rules.weights_of(balance.asset)
    if sized is not None:
        whole, least = sized.haircuts(balance.amount)
        return least, min(whole + extra, 1.0)
    least = rules.haircut(balance.asset)
    return least, min(least + extra, 1.0)


def _premiums(balances: Sequence[CollateralBalance], rules: CollateralRules) -> dict[str, Floats]:
    """What debts ask on top of their value; empty where the rule set has no such weights."""
    if rules.weights is UNSET:
        return {}
    weights = [rules.weights_of(balance.asset) for balance in balances]
    premiums = [
        (0.0, 0.0) if sized is None else sized.premiums(balance.amount)
        for sized, balance in zip(weights, balances, strict=True)
    ]
    return {
        "initial_premium": _floats([initial for initial, _ in premiums]),
        "maintenance_premium": _floats([maintenance for _, maintenance in premiums]),
    }


def _net(same: Sequence[Holding], underlying: Underlying) -> tuple[float, float, float]:
    """Quantity and unrealised profit, also in coin, of the lines of one instrument."""
    _check_same(same)
    if same[0].kind == "option":
        return _sum([line.quantity for line in same]), 0.0, 0.0
    return (
        _sum([line.quantity for line in same]),
        _sum([_unrealised(line, underlying) for line in same]),
        _sum([_unrealised_inverse(line, underlying) for line in same]),
    )


def _sum(values: list[float]) -> float:
    """In an order of its own, so that the order of the lines changes nothing."""
    return values[0] if len(values) == 1 else sum(sorted(values))


def _check_same(same: Sequence[Holding]) -> None:
    """Positions that net must be the same option: which vol counts may not depend on order."""
    if len(same) == 1:
        return
    vols = {position.vol or 0.0 for position in same if position.kind == "option"}
    if len(vols) > 1:
        raise InstrumentError(
            f"option {same[0].name!r} is given with the vols {', '.join(map(str, sorted(vols)))}; "
            "expected one vol for one option",
            same[0].name,
        )


def _unrealised(position: Holding, underlying: Underlying) -> float:
    if position.unrealised_pnl is not None:
        return position.unrealised_pnl + position.unrealised_funding
    price = underlying.spot if position.kind == "spot" else underlying.perp_price
    if price is None or position.entry_price is None:
        return position.unrealised_funding
    return position.quantity * (price - position.entry_price) + position.unrealised_funding


def _unrealised_inverse(position: Holding, underlying: Underlying) -> float:
    """In coin: ``size_usd * (1 / entry - 1 / mark)``, the quantity being ``size_usd / mark``."""
    if position.entry_price is None:
        return _unrealised(position, underlying)
    return (
        _unrealised(position, underlying) - position.unrealised_funding
    ) / position.entry_price + position.unrealised_funding


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)
