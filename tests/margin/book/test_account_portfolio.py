"""Accounts as readable portfolios: the figures are those of the book, under every preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from margin.book.account_portfolio import account_portfolio
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet, load_ruleset
from margin.valuation.view import MarketView
from margin.what_if.outcome import outcome
from market.accounts.book import Account, Balance, Book, Position
from market.bars.daily_closes import DailyCloses
from market.core.clock import DAY
from market.core.errors import InstrumentError
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

OPTIONS = (
    "derive-pmrm2",
    "paradex-portfolio",
    "deribit-portfolio-like",
    "derive-srm",
    "derive-srm-v2",
    "deribit-standard",
)
LINEAR = ("linear-tiers", "binance-usdm", "dydx-v4", "hyperliquid", "drift-v2", "emir-ccp")
AS_OF = parse_expiry("BTC-20MAR26")
NEAR, FAR = "BTC-27MAR26", "BTC-26JUN26"
CALL, PUT, PERP = f"{NEAR}-100000-C", f"{FAR}-120000-P", "BTCUSDT-PERP"
BOARD = QuoteBoard(
    expiries={
        NEAR: ExpiryQuote(AS_OF, 100_100.0, 0.03, vols={90_000.0: 0.6, 110_000.0: 0.5}),
        FAR: ExpiryQuote(
            AS_OF, 101_500.0, 0.04, svi=(0.02, 0.1, -0.3, 0.0, 0.3), forward_confidence=0.3
        ),
    },
    instruments={
        PERP: InstrumentQuote(AS_OF, mark=100_050.0, confidence=0.4, open_interest=5_000.0),
        "ETHUSDT-PERP": InstrumentQuote(AS_OF, mark=2_003.0, open_interest=60_000.0),
        "BTCUSDT": InstrumentQuote(AS_OF, mark=99_990.0, confidence=0.45),
        "USDT": InstrumentQuote(AS_OF, mark=0.985),
    },
)


@pytest.fixture
def market(make_view: Callable[..., MarketView]) -> MarketView:
    rng = np.random.default_rng(5)
    returns = rng.normal(0.0, 0.03, (400, 2))
    close = np.array([100_000.0, 2_000.0]) * np.exp(np.cumsum(returns, axis=0) - returns.sum(0))
    close[7, 1] = np.nan
    until = AS_OF - AS_OF % DAY
    daily = DailyCloses(("BTCUSDT", "ETHUSDT"), until, close, returns**2)
    return dataclasses.replace(make_view(), as_of=AS_OF, quotes=BOARD, daily=daily)


def accounts(names: list[str], seed: int, rules: RuleSet) -> list[Account]:
    rng, cash = np.random.default_rng(seed), next(iter(rules.collateral.cash_assets))
    found = []
    for i in range(12):
        chosen = rng.permutation(names)[: rng.integers(1, len(names) + 1)].tolist()
        legs = tuple(
            Position(name, float(rng.normal()), 95_000.0 if name == PERP else None)
            for name in chosen
        )
        balances = (Balance("BTC", float(rng.normal())), Balance("ETH", 3.0), Balance(cash, 9.0))
        found.append(Account(str(i), float(rng.normal(2e4, 2e4)), legs, balances[: i % 4]))
    return found


def assert_same(account: Account, view: MarketView, rules: RuleSet) -> None:
    want = compute_requirement(Book.of([account]), view, rules)
    assert not want.problems
    got = outcome(account_portfolio(account, view, rules).portfolio, rules)
    initial = float(want.equity[0] - want.initial_margin[0])
    assert got.maintenance_net_margin == pytest.approx(want.headroom[0], rel=1e-12, abs=1e-6)
    assert got.initial_net_margin == pytest.approx(initial, rel=1e-12, abs=1e-6)


@pytest.mark.parametrize("preset", OPTIONS)
def test_option_accounts_have_the_margins_of_the_book(preset: str, market: MarketView) -> None:
    rules = load_ruleset(preset)
    for account in accounts([CALL, PUT, PERP, f"{NEAR}-100000-P", f"{FAR}-90000-C"], 1, rules):
        assert_same(account, market, rules)


@pytest.mark.parametrize("preset", LINEAR)
def test_linear_accounts_have_the_margins_of_the_book(preset: str, market: MarketView) -> None:
    rules = load_ruleset(preset)
    for account in accounts([PERP, "BTCUSDT", "ETHUSDT-PERP", "ETHUSDT"], 2, rules):
        assert_same(account, market, rules)


def test_listed_instruments_are_priced_and_change_no_figure(market: MarketView) -> None:
    """A strike that is only asked about must not count among those of the expiry."""
    rules = load_ruleset("derive-srm")
    account = Account("a", 5_000.0, (Position(CALL, -0.2),), (Balance("BTC", 0.1),))
    plain = account_portfolio(account, market, rules)
    asked = account_portfolio(account, market, rules, [PUT, CALL, "ETHUSDT-PERP"])
    assert asked.portfolio.positions == plain.portfolio.positions
    assert outcome(asked.portfolio, rules).maintenance_net_margin == pytest.approx(
        outcome(plain.portfolio, rules).maintenance_net_margin, rel=1e-12
    )
    assert set(asked.listed) == {PUT, CALL, "ETHUSDT-PERP"}
    put = asked.listed[PUT]
    assert (put.quantity, put.strike, put.type) == (0.0, 120_000.0, "put")
    assert put.vol is not None
    assert put.vol > 0.0


def test_an_instrument_that_cannot_be_valued_is_named(market: MarketView) -> None:
    rules = load_ruleset("derive-srm")
    with pytest.raises(InstrumentError, match="no forward") as error:
        account_portfolio(Account("a", 1.0, ()), market, rules, ["BTC-29MAY26-90000-C"])
    assert error.value.instrument == "BTC-29MAY26-90000-C"
