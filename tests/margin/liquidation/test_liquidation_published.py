"""Liquidation figures that venues publish, each with its page."""

from __future__ import annotations

import math
from typing import Any

import pytest

from margin.book.case_portfolio import Holding, Portfolio, Underlying
from margin.liquidation.auction import (
    buffer_margin,
    insolvent_offer,
    largest_share,
    price_factor,
    solvent_offer,
)
from margin.liquidation.deleverage import Winner, deleverage
from margin.liquidation.insurance_fund import InsuranceFund
from margin.liquidation.price_impact import fillable_price
from margin.liquidation.prices import bankruptcy_crossing, liquidation_crossing
from margin.rules.liquidation import AuctionRules, FundRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content

WALLET = 1_535_443.01

# The brackets that the maintenance amounts of the page (16,300 and 135,365) belong to.
BTC = ([50e3, 250e3, 1e6, 5e6], [0.004, 0.005, 0.01, 0.025, 0.05])
ETH = ([10e3, 100e3, 500e3, 1e6, 2e6, 5e6], [0.005, 0.0065, 0.01, 0.02, 0.05, 0.1, 0.125])


def brackets(bounds: list[float], rates: list[float]) -> list[dict[str, float]]:
    return [
        {"maintenance_rate": rate, "initial_rate": rate}
        | ({} if bound == math.inf else {"upper_bound": bound})
        for bound, rate in zip([*bounds, math.inf], rates, strict=True)
    ]


def tiers(**tables: list[dict[str, float]]) -> RuleSet:
    content: dict[str, Any] = load_ruleset("linear-tiers").content()
    content["tier"] = {
        "brackets": [{"maintenance_rate": 0.0, "initial_rate": 0.0}],
        "symbols": {name: {"brackets": rows} for name, rows in tables.items()},
    }
    return ruleset_from_content(content)


def perps(cash: float, *positions: tuple[str, float, float, float]) -> Portfolio:
    """Perpetuals as (underlying, quantity, entry price, mark)."""
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={
            name: Underlying(spot=mark, perp_price=mark) for name, _, _, mark in positions
        },
        positions=tuple(
            Holding(kind="perp", underlying=name, quantity=quantity, entry_price=entry)
            for name, quantity, entry, _ in positions
        ),
        collateral=(),
    )


def bankruptcy_of(cash: float, quantity: float, entry: float) -> float:
    """Bankruptcy price of one position, entered at the mark."""
    found = bankruptcy_crossing(
        perps(cash, ("BTC", quantity, entry, entry)), "BTC", load_ruleset("linear-tiers")
    )
    multiple = found.down if quantity > 0.0 else found.up
    assert multiple is not None
    return entry * multiple


@pytest.mark.parametrize(
    ("name", "quantity", "entry", "other", "other_pnl", "price"),
    [
        ("BTC", 109.488, 32_481.98, ("ETH", 3_683.979, 1_456.84), -448_192.89, 26_316.89),
        ("ETH", 3_683.979, 1_456.84, ("BTC", 109.488, 32_481.98), -56_354.57, 1_153.26),
        ("BTC", 109.488, 32_481.98, None, 0.0, 18_778.73),
        ("ETH", 3_683.979, 1_456.84, None, 0.0, 1_114.78),
    ],
)
def test_binance_usdm_cross_and_isolated(
    name: str,
    quantity: float,
    entry: float,
    other: tuple[str, float, float] | None,
    other_pnl: float,
    price: float,
) -> None:
    """Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts": its two positions,
    cross, and each with the whole wallet alone."""
    positions = [(name, quantity, entry, entry)]
    if other is not None:
        positions.append((*other, other[2] + other_pnl / other[1]))
    rules = tiers(BTCUSDT=brackets(*BTC), ETHUSDT=brackets(*ETH))
    found = liquidation_crossing(perps(WALLET, *positions), name, rules)
    assert found.down is not None
    assert found.down * entry == pytest.approx(price, abs=0.11 if other else 0.006)


def test_dydx_isolated_short() -> None:
    """dYdX documentation, "Liquidations", Isolated Liquidation Price: 3 ETH short at 3,000 with
    1,000 at 5% is liquidated at 3,174.60, with 476.2 of equity left."""
    rules = tiers(ETHUSDT=brackets([], [0.05]))
    found = liquidation_crossing(perps(1_000.0, ("ETH", -3.0, 3_000.0, 3_000.0)), "ETH", rules)
    assert found.up is not None
    price = 3_000.0 * found.up
    assert price == pytest.approx(3_174.60, abs=0.005)
    assert 1_000.0 - 3.0 * (price - 3_000.0) == pytest.approx(476.2, abs=0.05)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_hyperliquid_formula(side: float) -> None:
    """Hyperliquid, "Liquidations": ``price - side * available / size / (1 - l * side)``, where
    l = 1 / maintenance leverage and available = value - maintenance margin required."""
    price, size, value, rate = 50_000.0, 2.0, 6_000.0, 0.0125
    published = price - side * (value - rate * size * price) / size / (1.0 - rate * side)
    rules = tiers(BTCUSDT=brackets([], [rate]))
    found = liquidation_crossing(perps(value, ("BTC", side * size, price, price)), "BTC", rules)
    multiple = found.down if side > 0.0 else found.up
    assert multiple is not None
    assert price * multiple == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize(
    ("cash", "quantity", "entry", "price"),
    [
        # dYdX, "Contract Loss Mechanisms": 100 USD and 500 ABC, short and long at 1.
        (100.0, -500.0, 1.0, 1.2),
        (100.0, 500.0, 1.0, 0.8),
        # "What is Bybit's bankruptcy price": the initial margin of 1 BTC at 10,000 with 50x gone.
        (10_000.0 / 50, 1.0, 10_000.0, 9_800.0),
        (10_000.0 / 50, -1.0, 10_000.0, 10_200.0),
        # Bybit, "Liquidation Price (USDT Contract)", Example 1: 1 BTC long at 20,000 with 50x,
        # 0.5% of the entry value fixed as maintenance.
        (400.0 - 100.0, 1.0, 20_000.0, 19_700.0),
    ],
)
def test_bankruptcy_prices(cash: float, quantity: float, entry: float, price: float) -> None:
    assert bankruptcy_of(cash, quantity, entry) == pytest.approx(price, rel=1e-9)


def test_dydx_largest_spread() -> None:
    """dYdX, "Contract loss mechanisms on dYdX Chain": 1.5 times a margin of 5% is 7.5% from the
    oracle price, once nothing is left of the account."""
    rules = FundRules(fill_spread=1.5)
    for quantity, price in ((2.0, 92.5), (-2.0, 107.5)):
        assert fillable_price(quantity, 100.0, 10.0, 0.0, rules) == pytest.approx(price)
    assert fillable_price(2.0, 100.0, 10.0, 1.0, rules) == 100.0


def test_dydx_fund_covers_the_spread() -> None:
    """dYdX, "Contract Loss Mechanisms": 500 ABC long, bankrupt at 0.80, are closed at 0.77: the
    fund pays 15."""
    fund = InsuranceFund(1_000.0)
    payment = fund.payment(500.0 * (0.80 - 0.77), FundRules())
    assert payment == pytest.approx(15.0)
    assert fund.pay(payment).balance == pytest.approx(985.0)


def test_bybit_fund_pays() -> None:
    """Bybit Help Center, "Insurance Fund": bankrupt at 6,950, a close at 6,930 takes from it."""
    fund = InsuranceFund(100.0)
    assert fund.payment(6_950.0 - 6_930.0, FundRules()) == 20.0


# Derive documentation, "Liquidation Parameters".
DERIVE = AuctionRules(
    start=0.95,
    knee=0.70,
    fast_seconds=900.0,
    slow_seconds=43_200.0,
    insolvent_seconds=3_600.0,
    buffer=0.15,
    fee_rate=0.1,
)


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [(0.0, 0.95), (450.0, 0.825), (900.0, 0.70), (22_500.0, 0.35), (44_100.0, 0.0), (1e6, 0.0)],
)
def test_derive_price_falls_in_two_phases(seconds: float, factor: float) -> None:
    """Derive documentation, "Liquidation Parameters": 0.95 to 0.70 in 900 s, then to 0 in 12 h."""
    assert price_factor(seconds, DERIVE) == pytest.approx(factor)


def test_derive_share_of_a_solvent_auction() -> None:
    """Derive v2-core, unit tests of the auction: mark-to-market 300, margin -200, no discount and
    no buffer: 40% of the account."""
    plain = AuctionRules(1.0, 1.0, 1.0, 1.0, 1.0)
    assert largest_share(-200.0, 300.0, 1.0, plain) == pytest.approx(0.4)
    assert solvent_offer(-200.0, 300.0, 0.0, plain).price == 300.0


def test_derive_insolvent_bids() -> None:
    """Derive v2-core, unit tests of the auction: from -MtM on, halfway at half of the time; 0 for
    an account that meets its margin."""
    start = insolvent_offer(-300.0, -100.0, 0.0, DERIVE)
    half = insolvent_offer(-300.0, -100.0, 1_800.0, DERIVE)
    assert (start.price, half.price) == (-100.0, -200.0)
    assert insolvent_offer(-1_000.0, 100.0, 0.0, DERIVE).price == 0.0
    assert insolvent_offer(-1_000.0, 100.0, 3_600.0, DERIVE).price == -1_000.0
    assert insolvent_offer(1_000.0, -100.0, 1_800.0, DERIVE).price == 0.0


def test_derive_buffer_margin() -> None:
    """Derive documentation: ``MtM + 1.15 (MM - MtM)``."""
    assert buffer_margin(-200.0, 300.0, 0.15) == pytest.approx(300.0 + 1.15 * (-200.0 - 300.0))


def test_bitmex_queue() -> None:
    """BitMEX, "Auto Deleveraging Examples": six longs with scores 3, 6, 1, 4, 5, 2; a short of 20
    takes account 2 whole and half of account 5."""
    sizes = {"1": 10.0, "2": 10.0, "3": 20.0, "4": 30.0, "5": 20.0, "6": 10.0}
    scores = {"1": 3.0, "2": 6.0, "3": 1.0, "4": 4.0, "5": 5.0, "6": 2.0}
    # Entry 500 and mark 1,000 earn 100%; equity sets the leverage that is the published score.
    winners = [
        Winner(name, size, 500.0, 1_000.0, size * 1_000.0 / scores[name], 0.0, 0.0)
        for name, size in sizes.items()
    ]
    queue = deleverage(-20.0, winners, "profit_leverage")
    assert [place.winner.account_id for place in queue] == ["2", "5", "4", "1", "6", "3"]
    assert [place.closed for place in queue] == [10.0, 10.0, 0.0, 0.0, 0.0, 0.0]
    assert [place.score for place in queue] == pytest.approx([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
