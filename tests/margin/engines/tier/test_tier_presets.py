"""The tier presets against what the venues have worked out themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from margin.cases.margin_cases import run_case
from margin.engines.tier.rules import TierRules
from margin.engines.tier.scaling import leg_margins
from margin.engines.tier.tiers import bracket_table
from margin.rules.asset_weights import asset_weight, liability_weight
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content

QUANTUM = 1e-6
"""Of USDC on the dYdX Chain."""


def case(ruleset: object, **portfolio: Any) -> dict[str, Any]:
    whole = {"cash": 0.0, "stable_price": 1.0, "positions": [], "collateral": []} | portfolio
    got = run_case(json.dumps({"id": 1, "portfolio": whole, "ruleset": ruleset}).encode())
    assert "error" not in got, got
    return got


def perp(underlying: str, quantity: float, **more: float) -> dict[str, Any]:
    return {"kind": "perp", "underlying": underlying, "quantity": quantity, **more}


def at(price: float, **more: float) -> dict[str, float]:
    return {"spot": price, "perp_price": price, **more}


# Binance. "How to Calculate Liquidation Price of USDS-M Futures Contracts" (2020-08-14) works a
# cross account: wallet 1,535,443.01; long 109.488 BTC from 32,481.98 and 3,683.979 ETH from
# 1,456.84, marked at 31,967.27 and 1,335.18. Its brackets are those of early 2021: BTC as in the
# announcement "Updates to Leverage and Margin Tiers of Binance Futures Contracts (2021-03-18)", ETH
# those that give the maintenance amount of 135,365 which the page states.
BTC_2021 = [
    (50_000, 0.004), (250_000, 0.005), (1_000_000, 0.01), (10_000_000, 0.025), (None, 0.05),
]  # fmt: skip
ETH_2021 = [
    (10_000, 0.005), (100_000, 0.0065), (500_000, 0.01), (1_000_000, 0.02), (2_000_000, 0.05),
    (5_000_000, 0.10), (None, 0.125),
]  # fmt: skip


def brackets(rows: list[tuple[int | None, float]]) -> dict[str, Any]:
    table = [
        {"maintenance_rate": rate, "initial_rate": 2 * rate}
        | ({} if bound is None else {"upper_bound": float(bound)})
        for bound, rate in rows
    ]
    return {"brackets": table}


BINANCE_2021 = {
    "engine": "tier",
    "name": "binance-usdm",
    "parameters": {"symbols": {"BTCUSDT": brackets(BTC_2021), "ETHUSDT": brackets(ETH_2021)}},
}


def binance_account(btc: float, eth: float) -> dict[str, Any]:
    return case(
        BINANCE_2021,
        cash=1_535_443.01,
        underlyings={"BTC": at(btc), "ETH": at(eth)},
        positions=[
            perp("BTC", 109.488, entry_price=32_481.98),
            perp("ETH", 3_683.979, entry_price=1_456.84),
        ],
    )


def test_binance_maintenance_margins_of_the_worked_account() -> None:
    got = binance_account(31_967.27, 1_335.18)["components"]["maintenance"]
    assert got["tier_margin"] == pytest.approx(-(71_200.81144 + 356_512.508), abs=1e-3)
    assert got["unrealised_pnl"] == pytest.approx(-56_354.57 - 448_192.89, abs=0.01)


@pytest.mark.parametrize(("btc", "eth"), [(31_967.27, 1_153.26), (26_316.89, 1_335.18)])
def test_binance_liquidation_prices_leave_no_net_maintenance_margin(btc: float, eth: float) -> None:
    """Half a cent of either price, which is what the page rounds to, is worth 18 USDT at most."""
    got = binance_account(btc, eth)["maintenance_net_margin"]
    assert abs(got) <= 0.005 * 3_683.979 + 0.01


def test_binance_maintenance_amount_of_the_brackets_of_2020() -> None:
    """Same page: "if the position is 500,000 USDT, the maintenance amount would be 1,300 USDT"."""
    ruleset = ruleset_from_content(
        load_ruleset("binance-usdm").content()
        | {"tier": {"brackets": brackets(BTC_2021)["brackets"], "symbols": {}}}
    )
    table = bracket_table(ruleset, ("BTCUSDT",))
    np.testing.assert_allclose(table.maintenance_deductions[0][:4], [0.0, 50.0, 1_300.0, 16_300.0])
    got = table.maintenance(np.array([500_000.0]), np.array([0]))
    assert got[0] == pytest.approx(500_000 * 0.01 - 1_300)


@pytest.mark.realdata
def test_binance_brackets_are_those_on_record(data_dir: Path) -> None:
    """The transcription by hand against the last listing of each symbol."""
    record = pd.read_parquet(data_dir / "margin_params" / "binance_leverage_tier_changes.parquet")
    rules = load_ruleset("binance-usdm").engine_rules(TierRules)
    assert len(rules.symbols) == 5
    for symbol, table in rules.symbols.items():
        own = record[record["symbol"] == f"{symbol.removesuffix('USDT')}/USDT:USDT"]
        listed = own[own["ts"] == own["ts"].max()].sort_values("tier")
        got = [(b.maintenance_rate, 1.0 / b.initial_rate, b.upper_bound) for b in table.brackets]
        want = listed[["maintenance_margin_rate", "max_leverage", "max_notional"]]
        assert got[-1][2] is None
        np.testing.assert_allclose([g[:2] for g in got], want.iloc[:, :2], rtol=1e-12)
        assert [g[2] for g in got[:-1]] == list(want["max_notional"][:-1])


@pytest.mark.realdata
def test_binance_default_is_never_milder_than_any_symbol_on_record(data_dir: Path) -> None:
    record = pd.read_parquet(data_dir / "margin_params" / "binance_leverage_tier_changes.parquet")
    own = record[record["symbol"].str.endswith("/USDT:USDT")]
    last = own[own["ts"] == own.groupby("symbol")["ts"].transform("max")]
    default = load_ruleset("binance-usdm").engine_rules(TierRules).brackets
    for bracket in default:
        least = bracket.upper_bound or np.inf
        reached = last[last["min_notional"] < least]
        inside = reached[reached["max_notional"] >= min(least, reached["max_notional"].max())]
        assert bracket.maintenance_rate >= inside["maintenance_margin_rate"].max()
        assert bracket.initial_rate >= 1.0 / inside["max_leverage"].min() * (1 - 1e-12)


# dYdX. The chain's own cases, v4-chain, protocol/x/perpetuals/types/liquidity_tier_test.go,
# TestGetInitialMarginQuoteQuantums: base fraction (ppm), quote quantums of the position, open
# interest and its caps (quote quantums), expected initial margin (quote quantums).
DYDX = [
    (200_000, 500_000, 0, 0, 0, 100_000),
    (500_000, 1_000_000, 0, 0, 0, 500_000),
    (100_000, 1, 0, 0, 0, 1),
    (567_243, 123_456, 0, 0, 0, 70_030),
    (200_000, 500_000, 1_500_000_000_000, 0, 0, 100_000),
    (200_000, 500_000, 1_500_000_000_000, 1_000_000_000_000, 2_000_000_000_000, 300_000),
    (200_000, 500_000, 80_000_000_000_000, 25_000_000_000_000, 50_000_000_000_000, 500_000),
    (200_000, 500_000, 25_000_000_000_000, 25_000_000_000_000, 50_000_000_000_000, 100_000),
    (200_000, 500_000, 28_123_456_789_123, 25_000_000_000_000, 60_000_000_000_000, 135_697),
]


def dydx_like(base: float, share: float, lower: float, upper: float) -> RuleSet:
    content = load_ruleset("dydx-v4").content()
    content["tier"] = {
        "brackets": [{"maintenance_rate": base * share, "initial_rate": base}],
        "open_interest": {"lower": lower, "upper": upper},
        "quantum": QUANTUM,
    }
    return ruleset_from_content(content)


@pytest.mark.parametrize(("ppm", "quantums", "interest", "lower", "upper", "expected"), DYDX)
def test_dydx_initial_margins_of_the_chain_to_the_quantum(
    ppm: int, quantums: int, interest: int, lower: int, upper: int, expected: int
) -> None:
    ruleset = dydx_like(ppm / 1e6, 0.5, lower * QUANTUM, upper * QUANTUM)
    size = np.array([quantums * QUANTUM])
    found = leg_margins(ruleset, ("X",), np.array([0]), size, size, np.array([interest * QUANTUM]))
    assert found.initial[0] / QUANTUM == pytest.approx(expected, abs=1e-6)
    # lib.go, GetMarginRequirementsInQuoteQuantums: rounded up, and the share of that again.
    unscaled = -(-quantums * ppm // 1_000_000)
    assert found.maintenance[0] / QUANTUM == pytest.approx(-(-unscaled // 2), abs=1e-6)


@pytest.mark.parametrize(
    ("initial_ppm", "fraction_ppm", "expected_ppm"),
    [(150_000, 800_000, 120_000), (450_000, 770_000, 346_500), (1_000_000, 1_000_000, 1_000_000)],
)
def test_dydx_maintenance_fractions_of_the_chain(
    initial_ppm: int, fraction_ppm: int, expected_ppm: int
) -> None:
    """Same file, TestLiquidityTierGetMaintenanceMarginPpm; a notional of one million USDC."""
    ruleset = dydx_like(initial_ppm / 1e6, fraction_ppm / 1e6, 0.0, 0.0)
    million = np.array([1e6])
    found = leg_margins(ruleset, ("X",), np.array([0]), million, million, np.array([np.nan]))
    assert found.maintenance[0] == pytest.approx(expected_ppm, abs=QUANTUM / 2)


def test_dydx_preset_by_tier_of_the_market() -> None:
    """The formulas of the page Margining on tiers of the page Governance Functionalities."""
    btc = case(
        "dydx-v4",
        cash=10_000.0,
        underlyings={"BTC": at(68_526.44763)},
        positions=[perp("BTC", -1.0)],
    )["components"]
    assert btc["initial"]["tier_margin"] == pytest.approx(-1_370.528953, abs=1e-9)  # up
    assert btc["maintenance"]["tier_margin"] == pytest.approx(-822.317372, abs=1e-9)
    sol = case(
        "dydx-v4",
        cash=10_000.0,
        underlyings={"SOL": at(200.0, open_interest=70e6)},
        positions=[perp("SOL", 10.0)],
    )["components"]
    assert sol["initial"]["tier_margin"] == pytest.approx(-2_000 * (0.05 + 0.5 * 0.95))
    assert sol["maintenance"]["tier_margin"] == pytest.approx(-2_000 * 0.03)
    other = case(
        "dydx-v4",
        cash=10_000.0,
        underlyings={"ZZZ": at(2.0)},
        positions=[perp("ZZZ", 10.0)],
    )["components"]
    assert other["initial"]["tier_margin"] == -20.0
    assert other["maintenance"]["tier_margin"] == pytest.approx(-4.0)


# Drift. The program's own cases, protocol-v2, programs/drift/src/math/margin/tests.rs,
# spot_market_asset_weight: base weight, factor, size in units of the asset, weight in 1/10,000 cut
# off (the program computes in integers).
@pytest.mark.parametrize(
    ("weight", "imf", "size", "expected"),
    [
        (0.9, 0.0, 1_000.0, 9_000),
        (0.9, 0.00001, 1_000.0, 9_000),
        (0.9, 0.00001, 1e9, 8_357),
        (0.9, 0.01, 1_000.0, 8_357),
        (0.9, 0.1, 1_000.0, 2_642),
        (0.15, 0.1, 100_000.0, 337),
        (0.75, 0.1, 100_000.0, 337),
    ],
)
def test_drift_asset_weights_of_the_program(
    weight: float, imf: float, size: float, expected: int
) -> None:
    got = asset_weight(np.array(weight), np.array(imf), np.array(size))
    assert int(got * 10_000) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("weight", "imf", "size", "expected"),
    [
        (1.1, 0.0, 1_000.0, 11_000),
        (1.1, 0.00001, 1_000.0, 11_000),
        (1.1, 0.01, 1_000.0, 11_962),
        (1.1, 0.1, 1_000.0, 40_422),
        (0.0, 0.1, 1_000.0, 31_622),
    ],
)
def test_drift_liability_weights_of_the_program(
    weight: float, imf: float, size: float, expected: int
) -> None:
    got = liability_weight(np.array(weight), np.array(imf), np.array(size))
    assert int(got * 10_000) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("price", "expected"), [(22_050.0, 13_555.327867), (21_050.0, 12_940.573769)]
)
def test_drift_perpetual_of_the_program(price: float, expected: float) -> None:
    """Same file, calculate_user_equity_value_tests: short 6.1475409835 BTC, 10%, factor 0.001."""
    got = case(
        "drift-v2",
        cash=50_000.0,
        underlyings={"BTC": at(price)},
        positions=[perp("BTC", -12.295081967 / 2)],
    )["components"]["initial"]
    assert got["tier_margin"] == pytest.approx(-expected, abs=1e-5)


def test_drift_collateral_of_the_documentation() -> None:
    """Cross-Collateral Deposits: 2,000 SOL at a factor of 0.003 keep their weight of 80%, for
    1.1 / (1 + 0.003 sqrt(2000)) is 0.96987."""
    discounted = asset_weight(np.array(1.0), np.array(0.003), np.array(2_000.0))
    assert float(discounted) == pytest.approx(0.96987, abs=1e-5)
    got = case(
        "drift-v2",
        underlyings={},
        collateral=[{"asset": "SOL", "amount": 2_000.0, "price": 25.0}],
    )
    assert got["initial_net_margin"] == pytest.approx(0.8 * 50_000)
    assert got["maintenance_net_margin"] == pytest.approx(0.9 * 50_000)


def test_drift_debt_costs_its_liability_weight() -> None:
    """Cross-Collateral Deposits, Margin Parameters: 120% and 110% of borrowed SOL."""
    got = case(
        "drift-v2",
        cash=10_000.0,
        underlyings={},
        collateral=[{"asset": "SOL", "amount": -10.0, "price": 100.0}],
    )
    assert got["initial_net_margin"] == pytest.approx(10_000 - 1_200)
    assert got["maintenance_net_margin"] == pytest.approx(10_000 - 1_100)


# Hyperliquid. Docs, Margin tiers: "at 20x max leverage, maintenance_margin_rate = 2.5%", and the
# deduction of a tier, its lower bound times the step of the rates. Margining: the margin to open a
# position is size * mark price / leverage, so it has no deduction.
@pytest.mark.parametrize(
    ("coin", "notional", "initial", "maintenance"),
    [
        ("SOL", 1e6, 1e6 / 20, 25_000.0),
        ("BTC", 150e6, 150e6 / 40, 150e6 * 0.0125),
        ("BTC", 200e6, 200e6 / 20, 200e6 * 0.025 - 150e6 * 0.0125),
        ("ETH", 101e6, 101e6 / 15, 2e6 + 1e6 / 30),
        ("kPEPE", 30e6, 30e6 / 5, 30e6 * 0.1 - 20e6 * 0.05),
        ("BNB", 4e6, 4e6 / 5, 4e6 * 0.1 - 3e6 * 0.05),
        ("ZZZ", 900.0, 300.0, 150.0),
    ],
)
def test_hyperliquid_tiers(coin: str, notional: float, initial: float, maintenance: float) -> None:
    got = case(
        "hyperliquid",
        cash=1e9,
        underlyings={coin: at(10.0)},
        positions=[perp(coin, -notional / 10.0)],
    )["components"]
    assert got["initial"]["tier_margin"] == pytest.approx(-initial)
    assert got["maintenance"]["tier_margin"] == pytest.approx(-maintenance)


@pytest.mark.parametrize("name", ["binance-usdm", "dydx-v4", "hyperliquid"])
def test_venues_of_one_margin_asset_count_no_other(name: str) -> None:
    coin = {"asset": "BTC", "amount": 1.0, "price": 100_000.0}
    got = case(name, cash=7.0, underlyings={}, collateral=[coin])
    assert got["initial_net_margin"] == got["maintenance_net_margin"] == 7.0
    assert got["mark_to_market"] == 100_007.0
