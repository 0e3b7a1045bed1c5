"""The requirement: worked numbers, one bad account harms no other, batches change no bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.book.requirement import Requirement, compute_requirement
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.core.errors import DataError, InstrumentError

FIGURES = ("equity", "initial_margin", "maintenance_margin", "headroom", "gross_notional")
LEG_FIGURES = ("leg_notional", "leg_initial_margin", "leg_maintenance_margin")

amounts = st.floats(-1e6, 1e6)
positions = st.builds(
    Position,
    st.sampled_from(["BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT"]),
    amounts,
    st.none() | st.floats(0.001, 1e6),
)
balances = st.builds(Balance, st.sampled_from(["USD", "USDT", "BTC", "X"]), amounts)
accounts = st.builds(
    Account,
    st.just("a"),
    amounts,
    st.lists(positions, max_size=4).map(tuple),
    st.lists(balances, max_size=3).map(tuple),
)


def figures(requirement: Requirement, i: int) -> tuple[float, ...]:
    return tuple(float(getattr(requirement, name)[i]) for name in FIGURES)


def test_worked_account(view: MarketView, linear_tiers: RuleSet) -> None:
    account = Account(
        "a",
        1_000.0,
        (Position("BTCUSDT-PERP", 0.1, 98_000.0), Position("ETHUSDT", -2.0), Position("XUSDT", 0)),
        (Balance("USDT", 50.0), Balance("BTC", 0.01), Balance("X", 10.0), Balance("USD", -5.0)),
    )
    got = compute_requirement(Book.of([account]), view, linear_tiers)
    # Cash 1 000 + 50 + 0.01 * 100 000 * 0.95 + 10 * 0.8 - 5, profit 0.1 * 2 000.
    assert got.equity[0] == pytest.approx(1_000 + 50 + 950 + 8 - 5 + 200)
    assert got.gross_notional[0] == pytest.approx(14_000)
    assert got.maintenance_margin[0] == pytest.approx(280)
    assert got.initial_margin[0] == pytest.approx(560)
    assert got.headroom[0] == pytest.approx(2_203 - 280)
    assert got.leg_notional.tolist() == pytest.approx([10_000, -4_000, 0])
    assert got.leg_maintenance_margin.tolist() == pytest.approx([200, 80, 0])
    assert got.leg_symbol.tolist() == [0, 1, 2]
    assert got.problems == {}


def test_account_without_positions_needs_nothing(view: MarketView, linear_tiers: RuleSet) -> None:
    got = compute_requirement(Book.of([Account("a", 7.5)]), view, linear_tiers)
    assert figures(got, 0) == (7.5, 0.0, 0.0, 7.5, 0.0)


def test_empty_book(view: MarketView, linear_tiers: RuleSet) -> None:
    got = compute_requirement(Book.of([]), view, linear_tiers)
    assert len(got) == 0
    assert got.problems == {}


def test_haircut_never_makes_a_debt_smaller(view: MarketView, linear_tiers: RuleSet) -> None:
    book = Book.of([Account("a", 0.0, (), (Balance("BTC", -0.01),))])
    assert compute_requirement(book, view, linear_tiers).equity[0] == pytest.approx(-1_000)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (Account("bad", 1.0, (Position("DOGEUSDT", 1.0),)), "DOGEUSDT"),
        (Account("bad", 1.0, (Position("not an id", 1.0),)), "not an id"),
        (Account("bad", 1.0, (Position("BTC-27MAR26-60000-C", 1.0),)), "BTC-27MAR26-60000-C"),
        (Account("bad", 1.0, (Position("BTCUSDT", float("nan")),)), "BTCUSDT"),
        (Account("bad", 1.0, (Position("BTCUSDT", float("inf")),)), "BTCUSDT"),
        (Account("bad", 1.0, (Position("BTCUSDT", 1.0, float("inf")),)), "BTCUSDT"),
        (Account("bad", 1.0, (Position("BTCUSDT", 1.0, -1.0),)), "BTCUSDT"),
        (Account("bad", 1.0, (), (Balance("GOLD", 1.0),)), "GOLD"),
        (Account("bad", 1.0, (), (Balance("USDT", float("nan")),)), "USDT"),
        (Account("bad", 1.0, (), (Balance("BTC", float("-inf")),)), "BTC"),
        (Account("bad", float("nan")), None),
        (Account("bad", float("inf")), None),
        (Account("bad", 1.0, (Position("BTCUSDT", 1e308),)), None),
    ],
)
def test_bad_account_is_named_and_harms_no_other(
    view: MarketView, linear_tiers: RuleSet, bad: Account, named: str | None
) -> None:
    good = Account("good", 5.0, (Position("ETHUSDT-PERP", 0.01),), (Balance("BTC", 0.1),))
    alone = compute_requirement(Book.of([good]), view, linear_tiers)
    got = compute_requirement(Book.of([good, Account("none", 0.0), bad, good]), view, linear_tiers)
    assert list(got.problems) == [2]
    assert isinstance(got.problems[2], DataError)
    assert "'bad'" in str(got.problems[2])
    assert np.isnan(figures(got, 2)).all()
    assert figures(got, 0) == figures(got, 3) == figures(alone, 0)
    if named:
        assert isinstance(got.problems[2], InstrumentError)
        assert got.problems[2].instrument == named
        assert named in str(got.problems[2])


@pytest.mark.parametrize("mark", [np.nan, 0.0, -1.0, np.inf])
def test_missing_mark_is_a_problem_not_a_zero(
    make_view: Callable[..., MarketView], linear_tiers: RuleSet, mark: float
) -> None:
    view = make_view(mark=[mark, 2_000.0, 1.0])
    held = Account("held", 1.0, (Position("BTCUSDT-PERP", 1.0),))
    secured = Account("secured", 1.0, (), (Balance("BTC", 1.0),))
    got = compute_requirement(Book.of([held, secured]), view, linear_tiers)
    assert sorted(got.problems) == [0, 1]
    assert "no price" in str(got.problems[0])


@given(book=st.lists(accounts, max_size=6), data=st.data())
def test_alone_split_or_permuted_every_account_has_the_same_bits(
    view: MarketView, linear_tiers: RuleSet, book: list[Account], data: st.DataObject
) -> None:
    whole = compute_requirement(Book.of(book), view, linear_tiers)
    order = data.draw(st.permutations(range(len(book))))
    permuted = compute_requirement(Book.of([book[i] for i in order]), view, linear_tiers)
    for place, i in enumerate(order):
        alone = compute_requirement(Book.of([book[i]]), view, linear_tiers)
        assert figures(alone, 0) == figures(whole, i) == figures(permuted, place)


@given(account=accounts)
def test_legs_add_up_to_the_account(
    view: MarketView, linear_tiers: RuleSet, account: Account
) -> None:
    got = compute_requirement(Book.of([account]), view, linear_tiers)
    total = math.fsum(got.leg_maintenance_margin.tolist())
    assert total == pytest.approx(got.maintenance_margin[0], rel=1e-12)
    assert got.maintenance_margin[0] <= got.initial_margin[0]
    assert got.headroom[0] == got.equity[0] - got.maintenance_margin[0]
