"""N portfolios in flat arrays, priced: what every engine computes on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.rules.ruleset import CollateralRules
from market.bars.daily_closes import DailyCloses
from market.core.errors import CaseError, InstrumentError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SPOT, PERP, OPTION = range(3)
"""Codes in `Portfolios.kind`."""
_KINDS = {"spot": SPOT, "perp": PERP, "option": OPTION}


@dataclass(frozen=True, slots=True)
class Underlyings:
    """U underlyings, every array of shape (U,); NaN where a price or figure is not known."""

    name: tuple[str, ...]
    spot: Floats
    spot_confidence: Floats
    perp_price: Floats
    perp_confidence: Floats
    open_interest: Floats


@dataclass(frozen=True, slots=True)
class Expiries:
    """E expiries, every array of shape (E,).

    `underlying` is the row in `Underlyings`, `seconds` what is left. Confidences are those of
    forward (rate included) and vol.
    """

    underlying: Ints
    seconds: Floats
    forward: Floats
    rate: Floats
    forward_confidence: Floats
    vol_confidence: Floats


@dataclass(frozen=True, slots=True)
class CollateralBalances:
    """B collateral balances, every array of shape (B,).

    Those of portfolio i are rows ``start[i]:start[i + 1]``. `underlying` is −1 where there is
    none; `cash` says that the rule set counts the asset as cash: worth 1, no haircut. A
    balance with a haircut of its own is no cash.
    `initial_haircut` is the whole one, that of maintenance included. A premium is the share of a
    debt asked on top of it; None: debts count at their value.
    """

    start: Ints
    asset: tuple[str, ...]
    underlying: Ints
    amount: Floats
    price: Floats
    confidence: Floats
    maintenance_haircut: Floats
    initial_haircut: Floats
    risk_cancelling: Bools
    cash: Bools
    initial_premium: Floats | None = None
    maintenance_premium: Floats | None = None

    def between(self, begin: int, end: int) -> CollateralBalances:
        """Those of portfolios ``begin`` to ``end - 1``."""
        rows = slice(self.start[begin], self.start[end])
        return CollateralBalances(
            start=self.start[begin : end + 1] - rows.start,
            asset=self.asset[rows],
            underlying=self.underlying[rows],
            amount=self.amount[rows],
            price=self.price[rows],
            confidence=self.confidence[rows],
            maintenance_haircut=self.maintenance_haircut[rows],
            initial_haircut=self.initial_haircut[rows],
            risk_cancelling=self.risk_cancelling[rows],
            cash=self.cash[rows],
            initial_premium=None if self.initial_premium is None else self.initial_premium[rows],
            maintenance_premium=(
                None if self.maintenance_premium is None else self.maintenance_premium[rows]
            ),
        )


@dataclass(frozen=True, slots=True)
class Portfolios:
    """N portfolios. The legs of portfolio i are rows ``start[i]:start[i + 1]``.

    Legs stand in a canonical order, by underlying, kind, expiry, strike, puts before calls, and
    each instrument once: splitting or permuting positions gives the same legs.

    Attributes
    ----------
    cash:
        Settlement currency, shape (N,).
    stable_price:
        Of the settlement currency's coin, shape (N,).
    start:
        Offsets, shape (N + 1,).
    name:
        Identifier of each leg, length L.
    kind:
        `SPOT`, `PERP` or `OPTION`, int8, shape (L,).
    underlying, expiry:
        Rows in `underlyings` and `expiries`, shape (L,); expiry −1 unless an option.
    quantity:
        Signed, units of the underlying, shape (L,).
    strike, vol:
        Shape (L,); NaN unless an option.
    call:
        Shape (L,).
    unrealised:
        Profit and loss and funding of spot and perps, shape (L,); 0 for options, which count at
        their value.
    position_leg:
        Leg of every position as it was given, shape (P,).
    history:
        Daily closes that a historical simulation looks back on; None where nothing is told.
    unrealised_inverse:
        `unrealised` if settled in coin, shape (L,); None where the builder cannot tell.
    """

    cash: Floats
    stable_price: Floats
    start: Ints
    name: tuple[str, ...]
    kind: npt.NDArray[np.int8]
    underlying: Ints
    expiry: Ints
    quantity: Floats
    strike: Floats
    vol: Floats
    call: Bools
    unrealised: Floats
    position_leg: Ints
    underlyings: Underlyings
    expiries: Expiries
    pledges: CollateralBalances
    history: DailyCloses | None = None
    unrealised_inverse: Floats | None = None

    def __len__(self) -> int:
        return len(self.cash)

    def between(self, begin: int, end: int) -> Portfolios:
        """Portfolios ``begin`` to ``end - 1``, with the same market; their arrays are views."""
        legs = slice(self.start[begin], self.start[end])
        first, last = self._position(legs.start), self._position(legs.stop)
        return Portfolios(
            cash=self.cash[begin:end],
            stable_price=self.stable_price[begin:end],
            start=self.start[begin : end + 1] - legs.start,
            name=self.name[legs],
            kind=self.kind[legs],
            underlying=self.underlying[legs],
            expiry=self.expiry[legs],
            quantity=self.quantity[legs],
            strike=self.strike[legs],
            vol=self.vol[legs],
            call=self.call[legs],
            unrealised=self.unrealised[legs],
            position_leg=self.position_leg[first:last] - legs.start,
            underlyings=self.underlyings,
            expiries=self.expiries,
            pledges=self.pledges.between(begin, end),
            unrealised_inverse=(
                None if self.unrealised_inverse is None else self.unrealised_inverse[legs]
            ),
            history=self.history,
        )

    def _position(self, leg: int) -> int:
        """The first position of the portfolio that begins with a leg: positions stand by
        portfolio, whatever their order within it."""
        return bisect_left(
            range(len(self.position_leg)), True, key=lambda p: bool(self.position_leg[p] >= leg)
        )


def flatten(portfolios: Sequence[Portfolio], rules: CollateralRules) -> Portfolios:
    """Portfolios as arrays, each with its own market.

    Parameters
    ----------
    portfolios:
        Checked, see `margin.book.case_portfolio.check_portfolio`.
    rules:
        Cash assets, the haircuts of pledges without their own, and what scenarios move.

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
        self.pledges: list[tuple[int, bool, CollateralBalance]] = []
        self.leg_counts: list[int] = []
        self.pledge_counts: list[int] = []
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
        held = {position.underlying for position in portfolio.positions}
        self.pledges += [
            placed_pledge(pledge, rows, held, rules) for pledge in portfolio.collateral
        ]
        self.pledge_counts.append(len(portfolio.collateral))

    def arrays(self, portfolios: Sequence[Portfolio], rules: CollateralRules) -> Portfolios:
        first = [holding for _, _, holding, *_ in self.legs]
        return Portfolios(
            cash=_floats([portfolio.cash for portfolio in portfolios]),
            stable_price=_floats([portfolio.stable_price for portfolio in portfolios]),
            start=offsets(self.leg_counts),
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
            pledges=flatten_pledges(self.pledges, self.pledge_counts, rules),
            history=_shared_history(portfolios),
        )

    def _underlyings(self) -> Underlyings:
        given = [underlying for _, underlying in self.underlyings]
        return Underlyings(
            name=tuple(name for name, _ in self.underlyings),
            spot=_floats([one.spot for one in given]),
            spot_confidence=_floats([one.spot_confidence for one in given]),
            perp_price=_floats([one.perp_price for one in given]),
            perp_confidence=_floats([one.perp_confidence for one in given]),
            open_interest=_floats([one.open_interest for one in given]),
        )

    def _expiries(self) -> Expiries:
        given = [expiry for _, expiry in self.expiries]
        return Expiries(
            underlying=_ints([row for row, _ in self.expiries]),
            seconds=_floats([one.seconds_to_expiry for one in given]),
            forward=_floats([one.forward for one in given]),
            rate=_floats([one.rate for one in given]),
            forward_confidence=_floats(
                [min(one.confidence, one.forward_confidence) for one in given]
            ),
            vol_confidence=_floats([min(one.confidence, one.vol_confidence) for one in given]),
        )


def flatten_pledges(
    pledges: Sequence[tuple[int, bool, CollateralBalance]],
    counts: Sequence[int],
    rules: CollateralRules,
) -> CollateralBalances:
    """Collateral as arrays: of each balance the row of its underlying and whether scenarios move
    it; `counts` is how many each portfolio has."""
    given = [pledge for *_, pledge in pledges]
    haircuts = [_haircuts(pledge, rules) for pledge in given]
    cash = [rules.is_cash(pledge.asset) and pledge.maintenance_haircut is None for pledge in given]
    return CollateralBalances(
        start=offsets(counts),
        asset=tuple(pledge.asset for pledge in given),
        underlying=_ints([row for row, *_ in pledges]),
        amount=_floats([pledge.amount for pledge in given]),
        price=_floats([pledge.price for pledge in given]),
        confidence=_floats([pledge.confidence for pledge in given]),
        maintenance_haircut=_floats([least for least, _ in haircuts]),
        initial_haircut=_floats([whole for _, whole in haircuts]),
        risk_cancelling=np.array([moves for _, moves, _ in pledges], dtype=np.bool_),
        cash=np.array(cash, dtype=np.bool_),
        **_premiums(given, rules),
    )


def offsets(counts: Sequence[int]) -> Ints:
    """Where each of some runs starts and the last one ends, shape (len + 1,)."""
    out = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=out[1:])
    return out


def _shared_history(portfolios: Sequence[Portfolio]) -> DailyCloses | None:
    given = [portfolio.history for portfolio in portfolios if portfolio.history is not None]
    if not given:
        return None
    if any(history != given[0] for history in given):
        raise CaseError(
            "portfolios with different histories are margined together; margin each on its own, "
            "or give all of them the same"
        )
    return given[0].daily_closes()


def placed_pledge(
    pledge: CollateralBalance, rows: Mapping[str, int], held: Set[str], rules: CollateralRules
) -> tuple[int, bool, CollateralBalance]:
    """Row of its underlying, whether scenarios move it, and the pledge itself, in a portfolio
    that holds something on the underlyings `held`.

    A pledge with a haircut of its own says that too; of others the rule set does.
    """
    row = -1 if pledge.underlying is None else rows[pledge.underlying]
    coin = rules.coin(pledge.asset) if pledge.maintenance_haircut is None else None
    for name in () if coin is None else (coin, f"{coin}USDT"):
        if name in held:
            return rows[name], True, pledge
    return row, pledge.risk_cancelling, pledge


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


def _haircuts(pledge: CollateralBalance, rules: CollateralRules) -> tuple[float, float]:
    """Of maintenance, and the whole one of initial margin: the pledge's own, else the rule set's
    weights by size, else its haircuts."""
    if pledge.maintenance_haircut is not None:
        return pledge.maintenance_haircut, pledge.maintenance_haircut + pledge.initial_extra_haircut
    extra = pledge.initial_extra_haircut or rules.initial_extra_haircut(pledge.asset)
    own = rules.weights_of(pledge.asset)
    if own is not None:
        whole, least = own.haircuts(pledge.amount)
        return least, min(whole + extra, 1.0)
    least = rules.haircut(pledge.asset)
    return least, min(least + extra, 1.0)


def _premiums(pledges: Sequence[CollateralBalance], rules: CollateralRules) -> dict[str, Floats]:
    """What debts ask on top of their value; empty where the rule set has no such weights."""
    if rules.weights is UNSET:
        return {}
    weights = [rules.weights_of(pledge.asset) for pledge in pledges]
    premiums = [
        (0.0, 0.0) if own is None else own.premiums(pledge.amount)
        for own, pledge in zip(weights, pledges, strict=True)
    ]
    return {
        "initial_premium": _floats([initial for initial, _ in premiums]),
        "maintenance_premium": _floats([maintenance for _, maintenance in premiums]),
    }


def _net(same: Sequence[Holding], underlying: Underlying) -> tuple[float, float, float]:
    """Quantity and unrealised profit, also in coin, of the lines of one instrument."""
    _check_same(same)
    if same[0].kind == "option":
        return _sum([held.quantity for held in same]), 0.0, 0.0
    return (
        _sum([held.quantity for held in same]),
        _sum([_unrealised(held, underlying) for held in same]),
        _sum([_unrealised_inverse(held, underlying) for held in same]),
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
