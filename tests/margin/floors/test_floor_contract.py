"""What every floor promises, whatever its formula: driven by the registry and the presets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st
from msgspec import Struct

from margin.book.requirement import Requirement, compute_requirement
from margin.floors.registry import FLOORS, active_floors, floor_terms, largest_floor
from margin.floors.term import FloorTerm
from margin.rules.floors import (
    CoverageRules,
    FloorRules,
    FloorTable,
    LiquidityRules,
    SlippageCurve,
)
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position

DEPTH = LiquidityRules(
    depth={"BTCUSDT": SlippageCurve(0.0001, ((1e4, 0.0005), (1e6, 0.004)))},
    depth_of_others=SlippageCurve(0.0005, ((1e4, 0.002),)),
)


def all_floors() -> FloorRules:
    """Every floor that has a table, switched on with the defaults of its table."""
    tables: dict[str, Struct] = {"liquidity": DEPTH, "coverage": CoverageRules()}
    for field in msgspec.structs.fields(FloorRules):
        for kind in (field.type, *get_args(field.type)):
            if isinstance(kind, type) and issubclass(kind, FloorTable):
                tables.setdefault(field.name, kind())
    return msgspec.structs.replace(FloorRules(), **tables)


ALL = all_floors()

NAN = float("nan")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XUSDT")
NAMES = ("BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT")
ANY = st.floats(allow_nan=True, allow_infinity=True)
THREE = st.tuples(ANY, ANY, ANY)
QUANTITIES = st.floats(-1e6, 1e6).map(lambda x: x if abs(x) > 1e-12 else 0.0)
"""Subnormal sizes lose the digits that relations between floors are stated in."""
NINE = st.lists(st.floats(-1, 1) | st.just(NAN), min_size=9, max_size=9)

positions = st.lists(st.builds(Position, st.sampled_from(NAMES), QUANTITIES), max_size=5).map(tuple)
balances = st.lists(
    st.builds(Balance, st.sampled_from(("USD", "BTC", "ETH", "X")), st.floats(-1e6, 1e6)),
    max_size=3,
).map(tuple)
accounts = st.builds(Account, st.just("a"), st.floats(-1e9, 1e9), positions, balances)


@pytest.fixture(scope="module")
def busy(make_view: Callable[..., MarketView]) -> MarketView:
    """A market in which every floor has something to say."""
    rho = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
    return make_view(
        age_hours=[5.0, 0.0, 30.0],
        correlation=rho,
        fast_correlation=0.9 * rho,
        long_volatility=[0.007, 0.008, 0.03],
        stressed_volatility=[0.02, 0.025, 0.06],
        history_hours=[50_000.0, 50_000.0, 9_000.0],
        suspect=[False, True, False],
    )


def of_term(term: FloorTerm, requirement: Requirement, i: int) -> float:
    """What a term gives to one account."""
    if term.of == "account":
        return float(term.amount[i])
    assert requirement.collateral is not None
    start = requirement.leg_start if term.of == "position" else requirement.collateral.start
    return float(term.amount[start[i] : start[i + 1]].sum())


def random_book(seed: int, count: int) -> list[Account]:
    rng = np.random.default_rng(seed)

    def account(i: int) -> Account:
        legs = (
            Position(str(rng.choice(NAMES)), float(rng.normal() * 10 ** rng.uniform(0, 4)))
            for _ in range(rng.integers(0, 6))
        )
        held = (
            Balance(str(rng.choice(["USD", "BTC", "ETH"])), float(rng.normal(1.0, 2.0)))
            for _ in range(rng.integers(0, 3))
        )
        return Account(str(i), float(rng.normal() * 1e4), tuple(legs), tuple(held))

    return [account(i) for i in range(count)]


@given(
    volatility=THREE,
    adv=THREE,
    age=THREE,
    long=THREE,
    stressed=THREE,
    hours=THREE,
    slow=NINE,
    fast=NINE,
    suspect=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    account=accounts,
)
def test_floors_are_finite_bounded_and_not_negative_whatever_the_market_shows(
    make_view: Callable[..., MarketView],
    linear_tiers: RuleSet,
    volatility: tuple[float, ...],
    adv: tuple[float, ...],
    age: tuple[float, ...],
    long: tuple[float, ...],
    stressed: tuple[float, ...],
    hours: tuple[float, ...],
    slow: list[float],
    fast: list[float],
    suspect: tuple[bool, ...],
    account: Account,
) -> None:
    view = make_view(
        volatility=volatility,
        adv=adv,
        age_hours=age,
        long_volatility=long,
        stressed_volatility=stressed,
        history_hours=hours,
        correlation=np.reshape(slow, (3, 3)),
        fast_correlation=np.reshape(fast, (3, 3)),
        suspect=suspect,
    )
    requirement = compute_requirement(Book.of([account]), view, linear_tiers)
    assert requirement.collateral is not None
    gross = requirement.gross_notional[0]
    backing = np.abs(requirement.collateral.value).sum()
    for name, floor in active_floors(requirement, view, ALL).items():
        most = gross + backing if name == "wrong_way" else gross
        assert 0 <= floor[0] <= most * (1 + 1e-12)
    # Below the smallest normal number there is no half-spread left to charge.
    if gross > 1e-300:
        assert active_floors(requirement, view, ALL)["liquidity"][0] > 0


@given(account=accounts)
def test_terms_add_up_to_the_floor(
    busy: MarketView, linear_tiers: RuleSet, account: Account
) -> None:
    requirement = compute_requirement(Book.of([account]), busy, linear_tiers)
    floors = active_floors(requirement, busy, ALL)
    terms = floor_terms(requirement, busy, ALL)
    assert list(terms) == list(floors) == list(FLOORS)
    for name, floor in floors.items():
        parts = [of_term(term, requirement, 0) for term in terms[name]]
        scale = sum(map(abs, parts)) + requirement.gross_notional[0]
        assert sum(parts) == pytest.approx(floor[0], abs=1e-12 * scale)
        assert len({term.name for term in terms[name]}) == len(terms[name])


def test_terms_add_up_in_a_book_and_where_nothing_is_known(
    busy: MarketView, make_view: Callable[..., MarketView], linear_tiers: RuleSet
) -> None:
    blank = make_view(
        volatility=[NAN] * 3, adv=[NAN, 0.0, NAN], age_hours=[NAN] * 3, correlation=[[NAN] * 3] * 3
    )
    for view in (busy, blank):
        requirement = compute_requirement(Book.of(random_book(3, 60)), view, linear_tiers)
        floors = active_floors(requirement, view, ALL)
        for name, terms in floor_terms(requirement, view, ALL).items():
            for i in range(len(requirement)):
                parts = [of_term(term, requirement, i) for term in terms]
                assert sum(parts) == pytest.approx(floors[name][i], rel=1e-9, abs=1e-6)


def test_every_floor_binds_somewhere_in_the_busy_book(
    busy: MarketView, linear_tiers: RuleSet
) -> None:
    # Without this the properties here could hold for want of anything to check.
    requirement = compute_requirement(Book.of(random_book(4, 200)), busy, linear_tiers)
    for name, floor in active_floors(requirement, busy, ALL).items():
        assert (floor > 0).mean() > (0.1 if name == "wrong_way" else 0.4), name


def test_floor_alone_equals_floor_in_a_book(busy: MarketView, linear_tiers: RuleSet) -> None:
    book = random_book(5, 40)
    whole = compute_requirement(Book.of(book), busy, linear_tiers)
    together = active_floors(whole, busy, ALL)
    backwards = active_floors(
        compute_requirement(Book.of(book[::-1]), busy, linear_tiers), busy, ALL
    )
    for i, account in enumerate(book):
        one = compute_requirement(Book.of([account]), busy, linear_tiers)
        alone = active_floors(one, busy, ALL)
        for name in FLOORS:
            assert alone[name][0] == together[name][i] == backwards[name][-1 - i], name


def test_order_of_positions_and_balances_does_not_matter(
    busy: MarketView, linear_tiers: RuleSet
) -> None:
    legs = [Position("BTCUSDT", 2.0), Position("ETHUSDT", -70.0), Position("BTCUSDT-PERP", -0.5)]
    held = (Balance("BTC", 0.3), Balance("ETH", -2.0), Balance("USD", 5.0))
    orders = [
        Account("a", 0.0, legs, coins)
        for legs in permutations(legs)
        for coins in (held, held[::-1])
    ]
    requirement = compute_requirement(Book.of(orders), busy, linear_tiers)
    for name, floor in active_floors(requirement, busy, ALL).items():
        assert floor == pytest.approx(np.full(len(orders), floor[0]), rel=1e-12), name
        assert floor[0] > 0, name


def test_order_of_symbols_does_not_matter(busy: MarketView, linear_tiers: RuleSet) -> None:
    # The same market under names that sort the other way round.
    turned = slice(None, None, -1)
    renamed = dict(zip(SYMBOLS, ("ZUSDT", "YUSDT", "AUSDT"), strict=True))
    assert busy.fast_correlation is not None
    fields = ("mark", "age_hours", "volatility", "adv", "long_volatility", "stressed_volatility")
    other = MarketView(
        as_of=0,
        symbols=tuple(renamed[name] for name in busy.symbols[turned]),
        correlation=busy.correlation[turned, turned],
        fast_correlation=busy.fast_correlation[turned, turned],
        **{key: getattr(busy, key)[turned] for key in (*fields, "history_hours", "suspect")},
    )
    # Depth curves are those of symbols by their names.
    rules = msgspec.structs.replace(ALL, liquidity=LiquidityRules())
    book = [
        Account("a", 10.0, (Position("BTCUSDT", 2.0), Position("ETHUSDT", -9.0))),
        Account("b", 10.0, (Position("XUSDT", 2e4), Position("ETHUSDT", 9.0))),
    ]
    moved = [
        Account(
            a.account_id,
            a.cash,
            tuple(Position(renamed[p.instrument], p.quantity) for p in a.positions),
        )
        for a in book
    ]
    here = active_floors(compute_requirement(Book.of(book), busy, linear_tiers), busy, rules)
    there = active_floors(compute_requirement(Book.of(moved), other, linear_tiers), other, rules)
    for name in FLOORS:
        assert there[name] == pytest.approx(here[name], rel=1e-12), name


@given(account=accounts, times=st.floats(0.01, 100))
def test_floors_on_coverage_go_with_the_size_of_the_account(
    busy: MarketView, linear_tiers: RuleSet, account: Account, times: float
) -> None:
    larger = Account(
        "b",
        account.cash * times,
        tuple(Position(p.instrument, p.quantity * times) for p in account.positions),
        tuple(Balance(b.asset, b.amount * times) for b in account.collateral),
    )
    requirement = compute_requirement(Book.of([account, larger]), busy, linear_tiers)
    floors = active_floors(requirement, busy, ALL)
    scale = requirement.gross_notional[1]
    for name in ("volatility", "stressed_buffer", "stressed_weight", "correlation"):
        small, large = floors[name]
        assert large == pytest.approx(times * small, rel=1e-9, abs=1e-9 * scale)


@given(account=accounts, wilder=st.floats(1, 50))
def test_more_volatility_everywhere_never_lowers_a_floor(
    busy: MarketView,
    make_view: Callable[..., MarketView],
    linear_tiers: RuleSet,
    account: Account,
    wilder: float,
) -> None:
    assert busy.long_volatility is not None
    assert busy.stressed_volatility is not None
    fields = ("age_hours", "correlation", "fast_correlation", "history_hours", "suspect")
    hot = make_view(
        volatility=wilder * busy.volatility,
        # Beside the newest volatility the stress stays what it was, and the buffer with it.
        long_volatility=wilder * busy.long_volatility,
        stressed_volatility=wilder * busy.stressed_volatility,
        **{key: getattr(busy, key) for key in fields},
    )
    requirement = compute_requirement(Book.of([account]), busy, linear_tiers)
    calm, wild = active_floors(requirement, busy, ALL), active_floors(requirement, hot, ALL)
    scale = requirement.gross_notional[0]
    # In the wrong-way floor all of the collateral may be gone before the book has lost more.
    for name in set(FLOORS) - {"wrong_way"}:
        assert wild[name][0] >= calm[name][0] - 1e-12 * scale, name


def test_switched_off_is_absent_not_zero(busy: MarketView, linear_tiers: RuleSet) -> None:
    book = Book.of([Account("a", 0.0, (Position("BTCUSDT", 1.0),), (Balance("BTC", 1.0),))])
    requirement = compute_requirement(book, busy, linear_tiers)
    everything = active_floors(requirement, busy, ALL)
    assert largest_floor(everything, requirement)[0] == max(f[0] for f in everything.values())
    for name in FLOORS:
        table = type(getattr(ALL, name))(enabled=False)
        tables = {key: getattr(ALL, key) for key in FloorRules.__struct_fields__}
        rest = active_floors(requirement, busy, FloorRules(**(tables | {name: table})))
        assert list(rest) == [other for other in FLOORS if other != name]
        assert name not in floor_terms(requirement, busy, FloorRules(**(tables | {name: table})))


def test_account_with_a_problem_has_no_floor(busy: MarketView, linear_tiers: RuleSet) -> None:
    book = [
        Account("unknown", 1.0, (Position("DOGEUSDT", 1.0), Position("BTCUSDT", 1.0))),
        Account("fine", 1.0, (Position("BTCUSDT", 1.0),), (Balance("BTC", 1.0),)),
        Account("no cash", NAN, (Position("BTCUSDT", 1.0),)),
        Account("no coin", 1.0, (Position("BTCUSDT", 1.0),), (Balance("DOGE", 1.0),)),
    ]
    requirement = compute_requirement(Book.of(book), busy, linear_tiers)
    floors = active_floors(requirement, busy, ALL)
    for floor in floors.values():
        assert np.isnan(floor).tolist() == [True, False, True, True]
    assert np.isnan(largest_floor(floors, requirement)).tolist() == [True, False, True, True]


def test_account_without_positions_has_no_floor_to_keep(
    busy: MarketView, linear_tiers: RuleSet
) -> None:
    book = Book.of([Account("a", 5.0, (), (Balance("BTC", 1.0), Balance("ETH", -3.0)))])
    requirement = compute_requirement(book, busy, linear_tiers)
    for floor in active_floors(requirement, busy, ALL).values():
        assert floor.tolist() == [0.0]


def test_empty_book_has_empty_floors(busy: MarketView, linear_tiers: RuleSet) -> None:
    requirement = compute_requirement(Book.of([]), busy, linear_tiers)
    assert all(floor.shape == (0,) for floor in active_floors(requirement, busy, ALL).values())
    assert set(floor_terms(requirement, busy, ALL)) == set(FLOORS)
