"""The contract of marks, under every preset: the newer of mark and bar close values everything."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from margin.book.account_portfolio import account_portfolio
from margin.book.requirement import Requirement, compute_requirement
from margin.floors.registry import FLOORS, active_floors
from margin.life_cycle.account_replay import AccountReplay
from margin.liquidation.book_liquidation import book_step
from margin.pricing.black76 import black76_price
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.valuation.account_marks import AccountMarks, trade_price
from margin.valuation.view import MarketView
from margin.what_if.outcome import outcome
from market.accounts.account_files import make_history
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import HOUR
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard
from market.sources.base import AccountUpdates

SPOT, PERP = "BTCUSDT", "BTCUSDT-PERP"
CLOSE, MARK = 100_000.0, 60_000.0
HELD = Account("a", 10_000.0, (Position(PERP, 1.0, 91_800.0),), (Balance("BTC", 0.5),))
OTHER = Account("b", 10_000.0, (Position("ETHUSDT-PERP", 1.0, 2_000.0),))

every_preset = pytest.mark.parametrize("preset", list_rulesets())


def with_marks(
    market: MarketView, age_hours: float = 0.5, bar_age: float = 1.0, **changes: Any
) -> MarketView:
    """The market with quoted marks of BTC and its perpetual, and bars, of some age."""
    ts = market.as_of - round(age_hours * HOUR)
    quotes = {} if market.quotes is None else dict(market.quotes.instruments)
    for name in (SPOT, PERP):
        known = quotes.get(name, InstrumentQuote(ts))
        quotes[name] = dataclasses.replace(known, ts=ts, mark=MARK)
    changes = {"age_hours": np.full(3, bar_age), **changes}
    return dataclasses.replace(market, quotes=QuoteBoard(instruments=quotes), **changes)


def without_marks(market: MarketView, bar_age: float = 1.0) -> MarketView:
    return dataclasses.replace(market, age_hours=np.full(3, bar_age))


def figures(view: MarketView, rules: RuleSet) -> Requirement:
    found = compute_requirement(Book.of([HELD, OTHER]), view, rules)
    assert found.problems == {}
    return found


def same(one: Requirement, other: Requirement, account: int) -> bool:
    keys = ("equity", "initial_margin", "maintenance_margin", "headroom", "gross_notional")
    return all(getattr(one, key)[account] == getattr(other, key)[account] for key in keys)


@every_preset
def test_equity_after_a_crash_is_that_of_the_posted_marks(market: MarketView, preset: str) -> None:
    bars = dataclasses.replace(market, mark=np.array([91_830.0, 2_000.0, 1.0]))
    crash = with_marks(bars)
    held = Account("a", 10_000.0, (Position(PERP, 1.0, 91_800.0),))
    got = compute_requirement(Book.of([held]), crash, load_ruleset(preset))
    assert got.equity.tolist() == [10_000.0 + 60_000.0 - 91_800.0]
    assert got.headroom[0] == got.equity[0] - got.maintenance_margin[0] < got.equity[0]


@every_preset
def test_a_newer_mark_moves_every_figure(market: MarketView, preset: str) -> None:
    rules = load_ruleset(preset)
    before, after = figures(without_marks(market), rules), figures(with_marks(market), rules)
    assert after.equity[0] <= before.equity[0] - (CLOSE - MARK)
    for key in ("initial_margin", "maintenance_margin", "gross_notional"):
        assert getattr(after, key)[0] == pytest.approx(
            getattr(before, key)[0] * MARK / CLOSE, rel=0.3
        )
        assert getattr(after, key)[0] != getattr(before, key)[0]
    assert after.headroom[0] == after.equity[0] - after.maintenance_margin[0]
    assert after.leg_notional[0] == MARK
    assert same(before, after, 1)


@every_preset
def test_a_newer_mark_moves_collateral(market: MarketView, preset: str) -> None:
    rules = load_ruleset(preset)
    before, after = (figures(view, rules) for view in (without_marks(market), with_marks(market)))
    assert before.collateral.value.tolist() == [0.5 * CLOSE]
    assert after.collateral.value.tolist() == [0.5 * MARK]
    ratio = after.collateral.counted() * CLOSE
    assert ratio == pytest.approx(before.collateral.counted() * MARK)


@every_preset
def test_a_newer_mark_moves_the_active_floors(market: MarketView, preset: str) -> None:
    rules = load_ruleset(preset)
    views = (without_marks(market), with_marks(market))
    before, after = (active_floors(figures(view, rules), view, rules.floors) for view in views)
    assert set(before) <= set(FLOORS)
    for name, floor in before.items():
        if floor[0] > 0.0:
            assert after[name][0] != floor[0], name
        assert after[name][1] == floor[1], name


@every_preset
@pytest.mark.parametrize(("mark_age", "used"), [(1.5, False), (1.0, True), (0.0, True)])
def test_the_newer_price_counts_and_on_a_tie_the_mark(
    market: MarketView, preset: str, mark_age: float, used: bool
) -> None:
    rules = load_ruleset(preset)
    got = figures(with_marks(market, mark_age, bar_age=1.0), rules)
    assert got.leg_notional[0] == (MARK if used else CLOSE)
    assert same(got, figures(without_marks(market), rules), 0) != used
    perp, coin = AccountMarks(got, rules).of(0)
    assert {perp.source, coin.source} == {"quote" if used else "bar"}
    assert perp.age_seconds == coin.age_seconds == 3_600.0 * (mark_age if used else 1.0)
    assert not perp.stale


@pytest.mark.parametrize("hours", [1 / 3, 7 / 12, 1.0, 13 / 12, 1.9])
def test_a_tie_is_one_whatever_the_rounding_of_hours(market: MarketView, hours: float) -> None:
    rules = load_ruleset("linear-tiers")
    view = with_marks(market, hours, bar_age=hours)
    assert figures(view, rules).leg_notional[0] == MARK
    late = dataclasses.replace(view, age_hours=view.age_hours - 2.0 / HOUR)
    assert figures(late, rules).leg_notional[0] == CLOSE


@every_preset
def test_a_mark_older_than_its_limit_is_not_used(market: MarketView, preset: str) -> None:
    rules = load_ruleset(preset)
    for limit, mark_age, bar_age, used in (
        (None, 2.0, 2.5, True),  # two intervals of an hour
        (None, 2.1, 2.5, False),
        (0.25, 0.5, 1.0, False),
        (6.0, 5.0, 7.0, True),
    ):
        view = with_marks(market, mark_age, bar_age, mark_max_age_hours=limit)
        got = figures(view, rules)
        assert got.leg_notional[0] == (MARK if used else CLOSE), (limit, mark_age)


@every_preset
def test_stale_prices_are_flagged_and_named(market: MarketView, preset: str) -> None:
    rules = load_ruleset(preset)
    for view, stale in (
        (with_marks(market, 0.5, bar_age=9.0), [False, True]),  # ETH has a bar of nine hours ago
        (with_marks(market, 7.0, bar_age=9.0), [True, True]),
        (without_marks(market, bar_age=9.0), [True, True]),
        (with_marks(market, 7.0, bar_age=1.0), [False, False]),
    ):
        used = AccountMarks(figures(view, rules), rules)
        assert [any(mark.stale for mark in used.of(i)) for i in range(2)] == stale


@every_preset
def test_the_stale_data_floor_reads_the_age_of_the_price_that_counts(
    market: MarketView, preset: str
) -> None:
    rules = load_ruleset(preset)
    if "stale_data" not in rules.floors.enabled():
        pytest.skip("the floor is off")

    def floor(view: MarketView) -> float:
        return float(active_floors(figures(view, rules), view, rules.floors)["stale_data"][0])

    assert floor(without_marks(market, bar_age=9.0)) > 0.0
    assert floor(with_marks(market, 0.5, bar_age=9.0)) == 0.0
    aged = with_marks(market, 5.0, bar_age=9.0, mark_max_age_hours=6.0)
    assert 0.0 < floor(aged) < floor(without_marks(market, bar_age=9.0))


def test_a_suspect_quote_makes_its_positions_suspect(market: MarketView) -> None:
    rules, view = load_ruleset("linear-tiers"), with_marks(market)
    assert view.quotes is not None
    waiting = dataclasses.replace(
        view.quotes.instruments[PERP], suspect_mark=30_000.0, suspect_ts=market.as_of
    )
    board = QuoteBoard(instruments={**view.quotes.instruments, PERP: waiting})
    doubted = dataclasses.replace(view, quotes=board)
    got = figures(doubted, rules)
    assert got.leg_suspect.tolist() == [True, False]
    assert same(got, figures(view, rules), 0)
    floors = active_floors(got, doubted, rules.floors)
    assert floors["stale_data"][0] > floors["stale_data"][1] == 0.0


def test_marks_of_an_account_are_named_once(market: MarketView) -> None:
    rules = load_ruleset("linear-tiers")
    account = Account(
        "a",
        1.0,
        (Position(SPOT, 1.0), Position(PERP, -1.0), Position(PERP, -1.0)),
        (Balance("BTC", 1.0), Balance("USD", 1.0), Balance("ETH", 2.0)),
    )
    got = compute_requirement(Book.of([account, OTHER]), with_marks(market), rules)
    used = AccountMarks(got, rules)
    assert [(mark.instrument, mark.price) for mark in used.of(0)] == [
        (SPOT, MARK),
        (PERP, MARK),
        ("ETHUSDT", 2_000.0),
    ]
    assert [mark.instrument for mark in used.of(1)] == ["ETHUSDT-PERP"]


@every_preset
def test_whatever_prices_an_account_prices_it_alike(market: MarketView, preset: str) -> None:
    rules, view = load_ruleset(preset), with_marks(market)
    assert trade_price(PERP, view, rules).price == MARK
    assert trade_price(SPOT, view, rules).price == MARK
    readable = account_portfolio(HELD, view, rules)
    assert outcome(readable.portfolio, rules).maintenance_net_margin == pytest.approx(
        figures(view, rules).headroom[0], abs=1e-6
    )
    _, step = book_step(HELD, view, rules)
    assert step.net_before == figures(view, rules).headroom[0]


def test_a_position_without_an_entry_price_enters_at_the_mark(market: MarketView) -> None:
    account = Account("a", 1.0, (Position(PERP, 1.0), Position("ETHUSDT", 1.0)))
    held = AccountReplay(make_history([AccountUpdates(0, Book.of([account]))]))
    book, _ = held.at(with_marks(market))
    assert dict(zip(book.leg_instrument, book.leg_entry_price.tolist(), strict=True)) == {
        PERP: MARK,
        "ETHUSDT": 2_000.0,
    }


def test_an_impossible_quoted_mark_is_named(market: MarketView) -> None:
    view = with_marks(market)
    assert view.quotes is not None
    wrong = dataclasses.replace(view.quotes.instruments[PERP], mark=-1.0)
    board = QuoteBoard(instruments={**view.quotes.instruments, PERP: wrong})
    got = compute_requirement(
        Book.of([HELD, OTHER]),
        dataclasses.replace(view, quotes=board),
        load_ruleset("linear-tiers"),
    )
    assert list(got.problems) == [0]
    assert "quoted mark -1.0" in str(got.problems[0])


@pytest.mark.parametrize(("preset", "rate"), [("derive-srm", 0.0), ("derive-pmrm2", 0.05)])
def test_an_option_is_marked_at_the_value_of_one_unit(
    market: MarketView, preset: str, rate: float
) -> None:
    rules, call = load_ruleset(preset), "BTC-27DEC24-100000-C"
    expiry = parse_expiry("BTC-27DEC24")
    view = dataclasses.replace(market, as_of=expiry - 30 * 24 * HOUR, daily=None)
    quote = ExpiryQuote(view.as_of - HOUR, 101_000.0, 0.05, vols={100_000.0: 0.6})
    board = QuoteBoard({"BTC-27DEC24": quote})
    view = dataclasses.replace(view, quotes=board)
    got = compute_requirement(Book.of([Account("a", 0.0, (Position(call, 2.0),))]), view, rules)
    assert got.problems == {}
    (mark,) = AccountMarks(got, rules).of(0)
    expected = black76_price(101_000.0, 100_000.0, 30 / 365, 0.6, True, rate)
    assert mark.price == pytest.approx(float(expected), rel=1e-12)
    assert (mark.instrument, mark.source, mark.age_seconds) == (call, "quote", 3_600.0)
    assert got.equity[0] == pytest.approx(2.0 * mark.price, rel=1e-12)
