"""A book as portfolios: quotes found or missed by name, and the legs of a portfolio."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.book_portfolios import book_portfolios
from margin.book.case_batch import flatten
from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import CollateralRules, RuleSet
from margin.valuation.marks import YEAR, option_vol
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position
from market.core.clock import HOUR, SECOND
from market.core.errors import InstrumentError
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

RULES = CollateralRules()
AS_OF = parse_expiry("BTC-20MAR26")
NEAR, FAR = "BTC-27MAR26", "BTC-26JUN26"
BOARD = QuoteBoard(
    expiries={
        NEAR: ExpiryQuote(AS_OF, 100_100.0, 0.03, vols={90_000.0: 0.6, 110_000.0: 0.5}),
        FAR: ExpiryQuote(
            AS_OF - 5 * HOUR, 101_000.0, 0.04, svi=(0.01, 0.1, -0.3, 0.0, 0.2), vol_confidence=0.4
        ),
        "ETH-27MAR26": ExpiryQuote(AS_OF, 2_001.0, 0.0, vols={2_000.0: 0.7}),
    },
    instruments={
        "BTCUSDT-PERP": InstrumentQuote(AS_OF, mark=100_050.0, confidence=0.8),
        "ETHUSDT": InstrumentQuote(AS_OF, mark=1_990.0, confidence=0.9),
        "USDT": InstrumentQuote(AS_OF, mark=0.99),
        f"{NEAR}-90000-P": InstrumentQuote(AS_OF - HOUR, vol=0.65),
    },
)


@pytest.fixture
def market(make_view: Callable[..., MarketView]) -> MarketView:
    return dataclasses.replace(make_view(), as_of=AS_OF, quotes=BOARD)


def portfolios_of(view: MarketView, *legs: Position) -> Portfolios:
    return book_portfolios(Book.of([Account("a", 5.0, legs)]), view, RULES)


def problem(view: MarketView, name: str) -> InstrumentError:
    error = portfolios_of(view, Position(name, 1.0)).entries.problems[0]
    assert isinstance(error, InstrumentError)
    assert error.instrument == name
    return error


def test_book_gives_the_legs_that_a_portfolio_of_the_same_prices_does(market: MarketView) -> None:
    legs = (
        Position("ETHUSDT", 3.0, 1_900.0),
        Position(f"{NEAR}-90000-P", -2.0, 5.0),
        Position("BTCUSDT-PERP", 0.5, 99_000.0),
        Position(f"{FAR}-120000-C", 1.0),
        Position("BTCUSDT-PERP", -0.2, 101_000.0),
        Position(f"{NEAR}-90000-C", 4.0),
    )
    account = Account("a", 1_000.0, legs, (Balance("ETH", 2.0), Balance("USDT", 7.0)))
    got = book_portfolios(Book.of([account]), market, RULES)
    week = (parse_expiry(NEAR) - AS_OF) / SECOND
    quarter = (parse_expiry(FAR) - AS_OF) / SECOND
    far_vol = option_vol(120_000.0, parse_expiry(FAR), None, BOARD.expiries[FAR])
    assert far_vol is not None

    def option(left: float, strike: float, side: str, quantity: float, vol: float) -> Holding:
        return Holding(
            kind="option",
            underlying="BTC",
            quantity=quantity,
            seconds_to_expiry=left,
            strike=strike,
            type=side,  # type: ignore[arg-type]
            vol=vol,
        )

    portfolio = Portfolio(
        cash=1_000.0,
        stable_price=0.99,
        underlyings={
            "ETH": Underlying(1_990.0, 0.9, 2_000.0),
            "BTC": Underlying(
                100_000.0,
                1.0,
                100_050.0,
                0.8,
                expiries=(
                    Expiry(quarter, 101_000.0, 0.04, vol_confidence=0.4),
                    Expiry(week, 100_100.0, 0.03),
                ),
            ),
        },
        positions=(
            Holding(kind="spot", underlying="ETH", quantity=3.0, entry_price=1_900.0),
            option(week, 90_000.0, "put", -2.0, 0.65),
            Holding(kind="perp", underlying="BTC", quantity=0.5, entry_price=99_000.0),
            option(quarter, 120_000.0, "call", 1.0, far_vol[0]),
            Holding(kind="perp", underlying="BTC", quantity=-0.2, entry_price=101_000.0),
            option(week, 90_000.0, "call", 4.0, 0.6),
        ),
        collateral=(
            CollateralBalance(
                asset="ETH", amount=2.0, price=1_990.0, underlying="ETH", confidence=0.9
            ),
            CollateralBalance(asset="USDT", amount=7.0, price=1.0),
        ),
    )
    want = flatten([portfolio], RULES)
    mine = got
    for key in ("cash", "stable_price", "start", "kind", "underlying", "expiry", "quantity"):
        assert np.array_equal(getattr(mine, key), getattr(want, key)), key
    for key in ("strike", "vol", "call", "unrealised", "position_leg"):
        np.testing.assert_allclose(getattr(mine, key), getattr(want, key), rtol=1e-15, err_msg=key)
    for table in ("underlyings", "expiries", "collateral"):
        mine_table, want_table = getattr(mine, table), getattr(want, table)
        for column in dataclasses.fields(mine_table):
            a, b = getattr(mine_table, column.name), getattr(want_table, column.name)
            if a is None or isinstance(a, tuple):
                assert a == b, column.name
            else:
                np.testing.assert_array_equal(a, b, err_msg=column.name)
    instruments, row = got.entries.instruments, got.entries.position_row
    assert instruments.quote_age_hours[row].tolist() == [0.0, 1.0, 0.0, 5.0, 0.0, 0.0]
    assert (instruments.kind[row] == OPTION).tolist() == [False, True, False, True, False, True]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("BTC-25DEC26-90000-C", "its expiry BTC-25DEC26 is not quoted"),
        ("BTC-13MAR26-90000-C", "has expired"),
        ("BTC-20MAR26-90000-C", "has expired"),
        ("DOGE-27MAR26-1-C", "the market has no symbol DOGEUSDT"),
        ("SOLUSDT-PERP", "the market has no symbol SOLUSDT"),
        ("BTC-27MAR26-90000", "is not understood"),
    ],
)
def test_what_cannot_be_valued_is_named(market: MarketView, name: str, word: str) -> None:
    error = problem(market, name)
    assert name in str(error)
    assert word in str(error)
    if "not quoted" in word:
        assert "post it to /v1/market/quotes" in str(error)


@pytest.mark.parametrize(
    ("quote", "word"),
    [
        (ExpiryQuote(AS_OF, 1e5, 0.0), "no vol"),
        (ExpiryQuote(AS_OF, math.nan, 0.0, vols={1.0: 0.5}), "forward nan"),
        (ExpiryQuote(AS_OF, 0.0, 0.0, vols={1.0: 0.5}), "forward 0"),
        (ExpiryQuote(AS_OF, 1e5, math.inf, vols={1.0: 0.5}), "rate inf"),
        (ExpiryQuote(AS_OF, 1e5, 0.0, vols={1.0: math.nan}), "no vol"),
        (ExpiryQuote(AS_OF, 1e5, 0.0, svi=(-9.0, 0.1, 0.0, 0.0, 0.1)), "no vol"),
    ],
)
def test_quotes_that_value_nothing_are_named(
    market: MarketView, quote: ExpiryQuote, word: str
) -> None:
    bare = dataclasses.replace(market, quotes=QuoteBoard(expiries={NEAR: quote}))
    error = problem(bare, f"{NEAR}-95000-C")
    assert word in str(error)
    assert "post it to /v1/market/quotes" in str(error)


@pytest.mark.parametrize("mark", [math.nan, 0.0, -1.0, math.inf])
def test_spot_that_is_no_price_is_named(make_view: Callable[..., MarketView], mark: float) -> None:
    view = dataclasses.replace(make_view(mark=[mark, 2_000.0, 1.0]), as_of=AS_OF, quotes=BOARD)
    assert "has no price" in str(problem(view, f"{NEAR}-90000-C"))


def test_without_any_quotes_every_option_is_refused_and_nothing_else(
    make_view: Callable[..., MarketView],
) -> None:
    view = dataclasses.replace(make_view(), as_of=AS_OF)
    book = Book.of(
        [
            Account("a", 1.0, (Position(f"{NEAR}-90000-C", 1.0),)),
            Account("b", 1.0, (Position("BTCUSDT-PERP", 1.0),)),
        ]
    )
    got = book_portfolios(book, view, RULES)
    assert list(got.entries.problems) == [0]
    assert got.start.tolist() == [0, 0, 1]
    assert got.underlyings.perp_price.tolist() == [100_000.0]


def test_own_vol_goes_before_strike_interpolation_and_svi() -> None:
    expiry = parse_expiry(NEAR)
    quote = ExpiryQuote(
        AS_OF, 100.0, 0.0, svi=(0.04, 0.0, 0.0, 0.0, 1.0), vols={80.0: 0.8, 120.0: 0.4}
    )
    assert option_vol(80.0, expiry, InstrumentQuote(7, vol=0.3), quote) == (0.3, 7)
    assert option_vol(80.0, expiry, InstrumentQuote(7, mark=2.0), quote) == (0.8, AS_OF)
    middle = option_vol(math.sqrt(80.0 * 120.0), expiry, None, quote)
    assert middle is not None
    assert middle[0] == pytest.approx(math.sqrt((0.64 + 0.16) / 2))
    for strike, vol in ((10.0, 0.8), (500.0, 0.4)):
        assert option_vol(strike, expiry, None, quote) == (vol, AS_OF)
    flat = dataclasses.replace(quote, vols={})
    left = (expiry - AS_OF) / YEAR
    from_svi = option_vol(77.0, expiry, None, flat)
    assert from_svi is not None
    vol, ts = from_svi
    assert vol == pytest.approx(math.sqrt(0.04 / left))
    assert ts == AS_OF


def test_perp_counts_at_its_own_quote_and_else_at_the_bar_close(market: MarketView) -> None:
    got = portfolios_of(
        market, Position("BTCUSDT-PERP", 1.0, 100_000.0), Position("ETHUSDT-PERP", 1.0)
    )
    on = got.underlyings
    assert on.name == ("BTC", "ETH")
    assert on.perp_price.tolist() == [100_050.0, 2_000.0]
    assert on.spot.tolist() == [100_000.0, 1_990.0]
    assert on.perp_confidence.tolist() == [0.8, 1.0]
    assert on.spot_confidence.tolist() == [1.0, 0.9]
    assert got.entries.unrealised.tolist() == [50.0, 0.0]
    assert got.kind.tolist() == [PERP, PERP]


def test_splitting_and_permuting_positions_gives_the_same_legs(market: MarketView) -> None:
    call, perp = f"{NEAR}-100000-C", "BTCUSDT-PERP"
    whole = portfolios_of(market, Position(perp, 0.75, 90_000.0), Position(call, -3.0))
    parts = portfolios_of(
        market,
        Position(call, -1.0),
        Position(perp, 0.25, 90_000.0),
        Position(call, -2.0),
        Position(perp, 0.5, 90_000.0),
    )
    for key in ("kind", "quantity", "unrealised", "strike", "vol", "start"):
        np.testing.assert_array_equal(getattr(whole, key), getattr(parts, key), err_msg=key)
    assert parts.entries.position_leg.tolist() == [1, 0, 1, 0]


def test_an_account_with_a_problem_leaves_the_others_as_they_are(market: MarketView) -> None:
    sound = Account("b", 3.0, (Position(f"{NEAR}-90000-P", -1.0),), (Balance("ETH", 1.0),))
    faulty = Account("a", 9.0, (Position("BTCUSDT", 1.0), Position("?", 1.0)), (Balance("BTC", 1),))
    alone = book_portfolios(Book.of([sound]), market, RULES)
    both = book_portfolios(Book.of([faulty, sound, faulty]), market, RULES)
    assert sorted(both.entries.problems) == [0, 2]
    assert both.entries.position_leg.tolist() == [-1, -1, 0, -1, -1]
    again = both.take(np.array([1]))
    for key in ("cash", "start", "quantity", "vol", "strike", "unrealised", "name"):
        np.testing.assert_array_equal(getattr(again, key), getattr(alone, key), err_msg=key)
    assert again.collateral.asset == alone.collateral.asset == ("ETH",)


def linear_book(seed: int, count: int) -> list[Account]:
    rng = np.random.default_rng(seed)
    book = []
    for i in range(count):
        names = rng.permutation(["BTCUSDT", "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT"])
        legs = tuple(
            Position(name, float(rng.normal()), float(rng.uniform(1, 9)) if i % 2 else None)
            for name in names[: rng.integers(0, 5)].tolist()
        )
        coins = (Balance("BTC", float(rng.normal())), Balance("USD", 5.0))[
            : int(rng.integers(0, 3))
        ]
        book.append(Account(str(i), float(rng.normal(0, 1e4)), legs, coins))
    return book


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_account_alone_has_the_bits_that_it_has_in_a_book(
    view: MarketView, linear_tiers: RuleSet, seed: int
) -> None:
    accounts = linear_book(seed, 8)
    whole = compute_requirement(Book.of(accounts), view, linear_tiers)
    for i, account in enumerate(accounts):
        alone = compute_requirement(Book.of([account]), view, linear_tiers)
        for key in ("equity", "initial_margin", "maintenance_margin", "headroom"):
            assert getattr(alone, key)[0] == getattr(whole, key)[i], key


def test_what_the_engine_refuses_is_an_error_of_its_account_alone(
    market: MarketView, linear_tiers: RuleSet
) -> None:
    accounts = linear_book(5, 20)
    option = f"{NEAR}-90000-P"
    accounts[7] = Account("short", 1.0, (Position(option, -1.0),))
    accounts[13] = Account("long", 1.0, (Position("BTCUSDT", 1.0), Position(option, 1.0)))
    got = compute_requirement(Book.of(accounts), market, linear_tiers)
    assert sorted(got.problems) == [7, 13]
    error = got.problems[13]
    assert isinstance(error, InstrumentError)
    assert error.instrument == option
    assert "account 'long'" in str(error)
    rest = [account for i, account in enumerate(accounts) if i not in (7, 13)]
    want = compute_requirement(Book.of(rest), market, linear_tiers)
    others = np.delete(np.arange(20), [7, 13])
    assert np.array_equal(got.headroom[others], want.headroom)


def test_large_book_is_turned_in_less_than_half_a_second(market: MarketView) -> None:
    strikes = np.arange(60_000, 140_000, 1_000).tolist()
    names = [f"{expiry}-{k}-{side}" for expiry in (NEAR, FAR) for k in strikes for side in "CP"]
    n, legs = 10_000, 10
    rng = np.random.default_rng(1)
    book = Book(
        account_ids=tuple(map(str, range(n))),
        cash=np.zeros(n),
        leg_start=np.arange(n + 1) * legs,
        leg_instrument=tuple(names[k] for k in rng.integers(0, len(names), n * legs).tolist()),
        leg_quantity=rng.normal(size=n * legs),
        leg_entry_price=np.full(n * legs, np.nan),
        balance_start=np.arange(n + 1),
        balance_asset=("BTC",) * n,
        balance_amount=np.ones(n),
    )
    book_portfolios(Book.of([Account("a", 1.0, (Position(names[0], 1.0),))]), market, RULES)
    seconds = []
    for _ in range(3):
        before = time.process_time()
        got = book_portfolios(book, market, RULES)
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.5, seconds
    assert not got.entries.problems
    assert (got.kind == OPTION).all()
    assert len(got) == n
