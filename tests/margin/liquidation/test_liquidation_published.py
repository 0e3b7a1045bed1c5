"""Liquidation figures that venues publish, each with its page."""

from __future__ import annotations

import numpy as np
import pytest

from margin.liquidation.auction import (
    buffer_margin,
    insolvent_offer,
    largest_share,
    price_factor,
    solvent_offer,
)
from margin.liquidation.bankruptcy import bankruptcy_price, inverse_bankruptcy_price
from margin.liquidation.bracket_price import (
    MaintenanceBrackets,
    inverse_liquidation_price,
    liquidation_price,
)
from margin.liquidation.deleverage import Winner, deleverage
from margin.liquidation.fillable_price import fillable_price
from margin.liquidation.insurance_fund import close_equity, draw
from margin.rules.liquidation import AuctionRules

WALLET = 1_535_443.01


def brackets(bounds: list[float], rates: list[float]) -> MaintenanceBrackets:
    deductions = [0.0]
    for k in range(1, len(rates)):
        deductions.append(deductions[-1] + bounds[k - 1] * (rates[k] - rates[k - 1]))
    return MaintenanceBrackets(np.array([*bounds, np.inf]), np.array(rates), np.array(deductions))


# The brackets that the maintenance amounts of the page (16,300 and 135,365) belong to.
BTCUSDT = brackets([50e3, 250e3, 1e6, 5e6], [0.004, 0.005, 0.01, 0.025, 0.05])
ETHUSDT = brackets(
    [10e3, 100e3, 500e3, 1e6, 2e6, 5e6], [0.005, 0.0065, 0.01, 0.02, 0.05, 0.1, 0.125]
)


def test_binance_brackets_have_the_amounts_of_the_page() -> None:
    assert BTCUSDT.deductions[3] == pytest.approx(16_300.0)
    assert ETHUSDT.deductions[5] == pytest.approx(135_365.0)


@pytest.mark.parametrize(
    ("symbol", "quantity", "entry", "other_margin", "other_pnl", "price"),
    [
        ("BTCUSDT", 109.488, 32_481.98, 356_512.508, -448_192.89, 26_316.89),
        ("ETHUSDT", 3_683.979, 1_456.84, 71_200.81144, -56_354.57, 1_153.26),
        ("BTCUSDT", 109.488, 32_481.98, 0.0, 0.0, 18_778.73),
        ("ETHUSDT", 3_683.979, 1_456.84, 0.0, 0.0, 1_114.78),
    ],
)
def test_binance_usdm_cross_and_isolated(
    symbol: str, quantity: float, entry: float, other_margin: float, other_pnl: float, price: float
) -> None:
    """Binance, "How to Calculate Liquidation Price of USD-M Futures Contracts": its two positions,
    cross, and each with the whole wallet alone."""
    found = liquidation_price(
        quantity,
        entry,
        WALLET - other_margin + other_pnl,
        {"BTCUSDT": BTCUSDT, "ETHUSDT": ETHUSDT}[symbol],
    )
    assert found == pytest.approx(price, abs=0.006)


def test_binance_coinm_close_to_its_calculator() -> None:
    """Binance developer forum, "Coin-Margined Futures Liquidation Price Calculation": 101 BTC,
    long 10 M USD at 45,000; the calculator shows 33,599.40, the asker's one bracket 33,578.86."""
    # BTCUSD: 0.4% to 5 BTC, 0.5% to 10, 1% to 20, 2.5% to 50, 5% to 100, 10% to 200, 12.5% to 400.
    found = inverse_liquidation_price(
        10e6,
        45_000.0,
        101.0,
        brackets(
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0],
            [0.004, 0.005, 0.01, 0.025, 0.05, 0.1, 0.125, 0.15],
        ),
    )
    assert found == pytest.approx(33_599.40, abs=0.05)


def test_dydx_isolated_short() -> None:
    """dYdX documentation, "Liquidations", Isolated Liquidation Price: 3 ETH short at 3,000 with
    1,000 at 5% is liquidated at 3,174.60, with 476.2 of equity left."""
    price = liquidation_price(-3.0, 3_000.0, 1_000.0, MaintenanceBrackets.flat(0.05))
    assert price == pytest.approx(3_174.60, abs=0.005)
    assert price is not None
    assert 1_000.0 - 3.0 * (price - 3_000.0) == pytest.approx(476.2, abs=0.05)


def test_dydx_bankruptcy_of_a_short() -> None:
    """dYdX, "Contract Loss Mechanisms": 100 USD and 500 ABC short at 1 are bankrupt at 1.2."""
    assert bankruptcy_price(-500.0, 1.0, 100.0) == pytest.approx(1.2)


def test_dydx_largest_spread() -> None:
    """dYdX, "Contract loss mechanisms on dYdX Chain": 1.5 times a margin of 5% is 7.5% from the
    oracle price, once nothing is left of the account."""
    for quantity, price in ((2.0, 92.5), (-2.0, 107.5)):
        found = fillable_price(quantity, 100.0, 10.0, 0.0, 10.0, fill_spread=1.5)
        assert found == pytest.approx(price)
    assert fillable_price(2.0, 100.0, 10.0, 10.0, 10.0, fill_spread=1.5) == 100.0


def test_dydx_fund_covers_the_spread() -> None:
    """dYdX, "Contract Loss Mechanisms": 500 ABC long at 1 with 100 USD, closed at 0.77 at a price
    of 0.801: the account is bankrupt at 0.80, the fund pays 15."""
    price = bankruptcy_price(500.0, 1.0, 100.0)
    assert price == pytest.approx(0.8)
    settled = draw(close_equity(500.0, 0.77, 0.8), 1_000.0)
    assert settled.paid == pytest.approx(15.0)
    assert settled.fund == pytest.approx(985.0)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_hyperliquid_formula(side: float) -> None:
    """Hyperliquid, "Liquidations": ``price - side * available / size / (1 - l * side)``, where
    l = 1 / maintenance leverage and available = value - maintenance margin required."""
    price, size, value, rate = 50_000.0, 2.0, 6_000.0, 0.0125
    published = price - side * (value - rate * size * price) / size / (1.0 - rate * side)
    # The account value includes the profit, so the entry may stand at today's price.
    found = liquidation_price(side * size, price, value, MaintenanceBrackets.flat(rate))
    assert found == pytest.approx(published, rel=1e-12)


def test_bybit_linear_isolated() -> None:
    """Bybit Help Center, "Liquidation Price (USDT Contract)", Example 1: 1 BTC long at 20,000 with
    50x, 0.5% of the entry value fixed as maintenance: liquidated at 19,700."""
    assert bankruptcy_price(1.0, 20_000.0, 400.0 - 100.0) == pytest.approx(19_700.0)


def test_bybit_bankruptcy_is_the_initial_margin_gone() -> None:
    """ "What is Bybit's bankruptcy price": 1 BTC long at 10,000 with 50x: 9,800."""
    assert bankruptcy_price(1.0, 10_000.0, 10_000.0 / 50) == pytest.approx(9_800.0)
    assert bankruptcy_price(-1.0, 10_000.0, 10_000.0 / 50) == pytest.approx(10_200.0)


def test_bybit_inverse_cross_with_fee() -> None:
    """Bybit Help Center, "How to calculate Liquidation Price (Inverse Contract)": 0.5 BTC, long
    10,000 contracts at 8,000: bankrupt at 5,718.57 and, with a margin and a fee that are fixed
    before, liquidated at 5,739.50 in ticks of half a dollar."""
    bankrupt = inverse_bankruptcy_price(10_000.0, 8_000.0, 0.5, fee_rate=0.00075)
    assert bankrupt == pytest.approx(5_718.57, abs=0.005)
    fixed = 10_000.0 / 8_000.0 * 0.005 + 10_000.0 * 0.00075 / 5_718.57
    assert inverse_bankruptcy_price(10_000.0, 8_000.0, 0.5 - fixed) == pytest.approx(
        5_739.50, abs=0.5
    )


def test_bybit_fund_gains_and_pays() -> None:
    """Bybit Help Center, "Insurance Fund": bankrupt at 6,950, a close at 6,980 adds to the fund
    and one at 6,930 takes from it."""
    assert draw(close_equity(1.0, 6_980.0, 6_950.0), 0.0).fund == 30.0
    assert draw(close_equity(1.0, 6_930.0, 6_950.0), 100.0).paid == 20.0


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
    assert [place.account_id for place in queue] == ["2", "5", "4", "1", "6", "3"]
    assert [place.quantile for place in queue] == [0.2, 0.4, 0.6, 0.8, 0.8, 1.0]
    assert [place.closed for place in queue] == [10.0, 10.0, 0.0, 0.0, 0.0, 0.0]
    assert [place.score for place in queue] == pytest.approx([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
