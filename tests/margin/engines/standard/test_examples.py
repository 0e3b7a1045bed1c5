"""Examples that the venues publish, and cases worked by hand from the published rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]


def nets(got: dict[str, Any]) -> tuple[float, float]:
    return got["initial_net_margin"], got["maintenance_net_margin"]


# Derive documentation, "Standard Margin", Examples; the preset has the figures of its pages.


def test_derive_example_1_a_simple_short_call(make: Make, option: Make, run: Make) -> None:
    # ETH at 1900, 2000 USDC, 3 calls of 1800 short at a mark of 120.
    portfolio = make(cash=2_000.0, positions=[option(-3.0, "call", 1_800.0, vol=0.0)])
    eth = portfolio["underlyings"]["ETH"]
    eth["spot"], eth["expiries"][0]["forward"] = 1_900.0, 1_920.0
    assert nets(run(portfolio, "derive-srm-v2")) == pytest.approx((785.0, 1_127.0))


@pytest.fixture
def spread(make: Make, option: Make) -> dict[str, Any]:
    """Example 2: 8 short calls of 1700, 8 long of 1900, ETH at 2100, the forward at 2105."""
    legs = [option(-8.0, "call", 1_700.0, vol=0.925), option(8.0, "call", 1_900.0, vol=0.925)]
    portfolio = make(cash=2_000.0, positions=legs)
    eth = portfolio["underlyings"]["ETH"]
    eth["spot"], eth["expiries"][0]["forward"] = 2_100.0, 2_105.0
    portfolio["underlyings"]["BTC"]["perp_price"] = 28_000.0
    return portfolio


def test_derive_example_2_spread_logic(run: Make, spread: dict[str, Any]) -> None:
    got = run(spread, "derive-srm-v2")
    assert nets(got) == pytest.approx((400.0, 400.0))
    assert got["components"]["initial"]["max_loss"] == pytest.approx(-1_600.0)
    # The short leg alone: -5920 and -4912 at a mark that the page rounds to 425.
    spread["positions"].pop()
    alone = run(spread, "derive-srm-v2")
    assert nets(alone) == pytest.approx((2_000.0 - 5_920.0, 2_000.0 - 4_912.0), abs=8 * 1.0)


def test_derive_examples_3_and_4_two_assets_a_depeg_and_a_low_confidence(
    run: Make, spread: dict[str, Any]
) -> None:
    spread["cash"] = 25_000.0
    spread["positions"].append({"kind": "perp", "underlying": "BTC", "quantity": 7.0})
    assert nets(run(spread, "derive-srm-v2")) == pytest.approx((3_800.0, 10_660.0))
    spread["underlyings"]["BTC"]["perp_confidence"] = 0.5
    spread["stable_price"] = 0.7
    got = run(spread, "derive-srm-v2")
    assert nets(got) == pytest.approx((-217_624.0, 10_660.0))
    assert got["components"]["initial"]["perp_confidence"] == pytest.approx(-98_000.0)
    assert got["components"]["initial"]["depeg"] == pytest.approx(-9_744.0 - 113_680.0)


def test_derive_base_collateral_by_hand(make: Make, run: Make) -> None:
    # "Standard Margin", Base Collateral: 0.8 and 0.9375 for ETH, 0.75 and 0.93 for BTC.
    balances = [
        {"asset": coin, "underlying": coin, "amount": 1.0, "price": price}
        for coin, price in (("ETH", 2_000.0), ("BTC", 28_000.0))
    ]
    assert nets(run(make(collateral=balances), "derive-srm-v2")) == pytest.approx(
        (1_600 * 0.9375 + 21_000 * 0.93, 1_600 + 21_000)
    )


def test_lyra_short_call_spread_needs_the_width_less_the_premium(
    make: Make, option: Make, run: Make
) -> None:
    # Lyra, announcement of V2's spreads, 1 November 2023: 1800/2100 needs 300 less the premium.
    legs = [option(-1.0, "call", 1_800.0), option(1.0, "call", 2_100.0)]
    premium = 40.0
    assert nets(run(make(cash=premium, positions=legs), "derive-srm")) == pytest.approx(
        (premium - 300.0, premium - 300.0)
    )


@pytest.mark.parametrize(
    ("coin", "index", "size", "initial", "maintenance"),
    [
        ("BTC", 100_000.0, 0.0, 0.0, 0.0),
        ("BTC", 100_000.0, 25.0, 53_125.0, 28_125.0),
        ("BTC", 100_000.0, 350.0, 1_312_500.0, 350 * 0.0275 * 100_000.0),
        ("SOL", 200.0, 25.0, 200.625, 100.625),
        ("SOL", 200.0, 6_000.0, 84_000.0, 6_000 * 0.05 * 200.0),
    ],
)
def test_deribit_linear_perpetual(
    make: Make,
    run: Make,
    coin: str,
    index: float,
    size: float,
    initial: float,
    maintenance: float,
) -> None:
    # Deribit support, "Linear Perpetual", margin calculation examples; the margin is on the index.
    for side in (1.0, -1.0):
        portfolio = make(
            underlyings={coin: {"spot": index, "perp_price": 1.01 * index}},
            positions=[{"kind": "perp", "underlying": coin, "quantity": side * size}],
        )
        got = run(portfolio, "deribit-standard")
        assert nets(got) == pytest.approx((-initial, -maintenance))
        # The inverse contract of the same size asks the same in coin, whatever it trades at.
        coins = run(portfolio, "deribit-standard", settlement="coin")
        assert nets(coins) == pytest.approx((-initial / index, -maintenance / index))


@pytest.mark.parametrize(
    ("size", "initial", "maintenance"), [(1_000.0, 0.024, 0.014), (5_000.0, 0.04, 0.03)]
)
def test_deribit_ether_rates(
    make: Make, run: Make, size: float, initial: float, maintenance: float
) -> None:
    # Deribit support, "11 January 2022": 2% and 1% plus 0.0004% for each ETH.
    portfolio = make(positions=[{"kind": "perp", "underlying": "ETH", "quantity": -size}])
    got = run(portfolio, "deribit-standard")
    assert nets(got) == pytest.approx((-size * 2_000 * initial, -size * 2_000 * maintenance))


@pytest.mark.parametrize(
    ("kind", "strike", "forward", "initial", "maintenance"),
    [
        ("call", 2_000.0, 2_100.0, 300.0, 150.0),  # at the money: 15%
        ("call", 2_060.0, 2_000.0, 240.0, 150.0),  # 3% out of the money: 12%
        ("call", 2_500.0, 2_000.0, 200.0, 150.0),  # the least is 10%
        ("put", 1_940.0, 2_000.0, 240.0, 150.0),
        ("put", 3_000.0, 2_000.0, 300.0, 150.0),  # mark 1000: 7.5% of S is more than of mark
        ("put", 7_400.0, 2_000.0, 405.0, 405.0),  # mark 5400: 7.5% of it, and IM at least MM
    ],
)
def test_deribit_short_options_by_hand(
    make: Make,
    option: Make,
    run: Make,
    kind: str,
    strike: float,
    forward: float,
    initial: float,
    maintenance: float,
) -> None:
    # Deribit, "Options", contract specifications; without vol the mark is the intrinsic value.
    mark = max(forward - strike, 0.0) if kind == "call" else max(strike - forward, 0.0)
    portfolio = make(cash=9_000.0, positions=[option(-2.0, kind, strike, vol=0.0)])
    portfolio["underlyings"]["ETH"]["expiries"][0]["forward"] = forward
    got = run(portfolio, "deribit-standard")
    assert nets(got) == pytest.approx(
        (9_000.0 - 2 * (initial + mark), 9_000.0 - 2 * (maintenance + mark))
    )
    assert got["mark_to_market"] == pytest.approx(9_000.0 - 2 * mark)
    portfolio["cash"] = 4.5
    coins = run(portfolio, "deribit-standard", settlement="coin")
    assert nets(coins) == pytest.approx(tuple(net / 2_000.0 for net in nets(got)))


def test_put_of_the_same_rule_at_another_venue(make: Make, option: Make, run: Make) -> None:
    # Bitexch, "Margin Rules for USDT Margined Options", ETH-USDT-17NOV23-1850-P: the rule and the
    # figures of Deribit; underlying 2098, mark 2.4, fifty short: IM 10610, MM 7987.5.
    portfolio = make(positions=[option(-50.0, "put", 1_850.0, vol=0.0)])
    eth = portfolio["underlyings"]["ETH"]
    eth["spot"], eth["expiries"][0]["forward"] = 2_098.0, 1_847.6
    assert nets(run(portfolio, "deribit-standard")) == pytest.approx((-10_610.0, -7_987.5))


def test_deribit_balance_leaves_out_what_long_options_are_worth(
    make: Make, option: Make, run: Make
) -> None:
    # Deribit API, get_account_summary: margin_balance = equity - options_value.
    long = make(cash=1_000.0, positions=[option(2.0, "call", 1_500.0, vol=0.0)])
    got = run(long, "deribit-standard")
    assert got["mark_to_market"] == pytest.approx(2_000.0)
    assert nets(got) == (1_000.0, 1_000.0)
    counting = run(long, "deribit-standard", long_option_value=True)
    assert nets(counting) == pytest.approx((2_000.0, 2_000.0))
    assert counting["components"]["initial"]["option_value"] == pytest.approx(1_000.0)


def test_inverse_perpetual_earns_in_coin(make: Make, run: Make) -> None:
    # 2 001 USD at an entry of 1 500, marked at 2 001: 2001 * (1/1500 - 1/2001) = 0.334 ETH.
    held = {"kind": "perp", "underlying": "ETH", "quantity": 1.0, "entry_price": 1_500.0}
    funded = {**held, "unrealised_funding": -0.01}
    for position, pnl in ((held, 0.334), (funded, 0.324)):
        got = run(make(positions=[position]), "deribit-standard", settlement="coin")
        assert got["components"]["initial"]["unrealised_pnl"] == pytest.approx(pnl)
        assert got["mark_to_market"] == pytest.approx(pnl)
    # Opposite sizes in USD at other entries leave no position, and the profit of both.
    other = {**held, "quantity": -1.0, "entry_price": 2_001.0}
    got = run(make(positions=[held, other]), "deribit-standard", settlement="coin")
    assert got["components"]["maintenance"]["perp_margin"] == 0.0
    assert got["mark_to_market"] == pytest.approx(0.334)


def test_coin_in_its_own_account_is_cash(make: Make, run: Make) -> None:
    balance = {"asset": "ETH", "underlying": "ETH", "amount": 3.0, "price": 2_000.0}
    debt = {**balance, "amount": -1.0}
    got = run(make(collateral=[balance, debt]), "deribit-standard", settlement="coin")
    assert nets(got) == (2.0, 2.0)
    assert got["mark_to_market"] == 2.0


def test_each_expiry_and_each_level_is_decided_for_itself(
    make: Make, option: Make, run: Make
) -> None:
    # Short strangle of 1700 / 2300: isolated 200 + mark each and 150 + mark each; its loss at 0 is
    # 1700 and one call is unpaired. A put spread of 1900 / 1800 a month later can lose 100.
    later = {"seconds_to_expiry": 44 * 86_400, "vol": 0.0}
    portfolio = make(
        positions=[
            option(-1.0, "put", 1_700.0, vol=0.0),
            option(-1.0, "call", 2_300.0, vol=0.0),
            option(-1.0, "put", 1_900.0, **later),
            option(1.0, "put", 1_800.0, **later),
        ]
    )
    expiry = {"seconds_to_expiry": 44 * 86_400, "forward": 2_000.0, "rate": 0.0}
    portfolio["underlyings"]["ETH"]["expiries"].append(expiry)
    assert nets(run(portfolio, "derive-srm")) == pytest.approx((-500.0, -400.0))
    # A loss of 180 lies between 150 and 200: initial margin takes it, maintenance does not.
    portfolio["positions"][3]["strike"] = 1_720.0
    assert nets(run(portfolio, "derive-srm")) == pytest.approx((-580.0, -450.0))


def test_every_kind_of_doubt_is_charged_on_its_own_size(
    make: Make, option: Make, run: Make
) -> None:
    portfolio = make(
        positions=[
            option(-3.0, "call", 2_500.0),
            option(5.0, "put", 1_500.0),
            {"kind": "perp", "underlying": "BTC", "quantity": -2.0},
            {"kind": "spot", "underlying": "BTC", "quantity": 0.5},
        ],
        collateral=[{"asset": "BTC", "underlying": "BTC", "amount": 0.25, "price": 28_000.0}],
    )

    def charges(**changes: float) -> tuple[float, ...]:
        coins = portfolio["underlyings"]
        changed = {
            "ETH": {**coins["ETH"], "expiries": [{**coins["ETH"]["expiries"][0]}]},
            "BTC": {**coins["BTC"]},
        }
        for key, value in changes.items():
            coin, _, field = key.partition("_")
            at = changed[coin] if field.startswith(("spot", "perp")) else changed[coin]["expiries"]
            (at if isinstance(at, dict) else at[0])[field] = value
        got = run({**portfolio, "underlyings": changed}, "derive-srm")["components"]
        assert got["maintenance"]["option_confidence"] == 0.0
        return tuple(got["initial"][f"{kind}_confidence"] for kind in ("perp", "option", "base"))

    assert charges() == (0.0, 0.0, 0.0)
    # At the threshold there is no charge, under it (1 - confidence) * 0.4 * S * size.
    assert charges(ETH_vol_confidence=0.4) == (0.0, 0.0, 0.0)
    for field in ("vol_confidence", "forward_confidence", "confidence", "spot_confidence"):
        assert charges(**{f"ETH_{field}": 0.25}) == pytest.approx((0, -0.75 * 0.4 * 2_000 * 3, 0))
    assert charges(BTC_perp_confidence=0.0) == pytest.approx((-0.4 * 28_000 * 2, 0, 0))
    low = 0.75 * 0.4 * 28_000
    assert charges(BTC_spot_confidence=0.25) == pytest.approx((-low * 2.5, 0, -low * 0.25))


def test_debts_of_base_assets_count_in_full(make: Make, run: Make) -> None:
    owed = {"asset": "ETH", "underlying": "ETH", "amount": -1.0, "price": 2_000.0}
    held = {**owed, "asset": "BTC", "underlying": "BTC", "amount": 1.0}
    got = run(make(cash=-50.0, collateral=[owed, held]), "derive-srm", base_im_scale=0.9)
    assert nets(got) == pytest.approx((-2_050 + 28_000 * 0.72, -2_050 + 28_000 * 0.8))
    assert got["mark_to_market"] == pytest.approx(-50 - 2_000 + 28_000)


def test_figures_of_one_underlying_leave_the_others_alone(make: Make, run: Make) -> None:
    legs = [{"kind": "perp", "underlying": coin, "quantity": 1.0} for coin in ("ETH", "BTC")]
    own = {"BTC": {"im_perp": 0.5}}
    got = run(make(positions=legs), "derive-srm", underlyings=own)
    assert nets(got) == pytest.approx(
        (-0.065 * 2_001 - 0.5 * 28_020, -0.05 * (2_001 + 28_020)),
    )


def test_unpaired_calls_cost_a_multiple_of_the_forward(make: Make, option: Make, run: Make) -> None:
    # Two calls of 100 short at a mark of 2300: isolated 2 * (2300 + 300) and 2 * (2300 + 150).
    portfolio = make(positions=[option(-2.0, "call", 100.0, vol=0.0)])
    portfolio["underlyings"]["ETH"]["expiries"][0]["forward"] = 2_400.0
    got = run(portfolio, "derive-srm", unpaired_im=1.05, unpaired_mm=1.03)
    assert nets(got) == pytest.approx((-2 * 1.05 * 2_400, -2 * 2_300 - 2 * 150))
    got = run(portfolio, "derive-srm", unpaired_im=1.05, unpaired_mm=0.9)
    assert got["components"]["maintenance"]["unpaired_calls"] == pytest.approx(-2 * 0.9 * 2_400)
