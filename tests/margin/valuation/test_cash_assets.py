"""One definition of cash: accounts, account files and margin cases value each coin alike."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from margin.book.requirement import compute_requirement
from margin.cases.margin_cases import run_case
from margin.rules.ruleset import list_rulesets, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.account_files import read_accounts
from market.accounts.book import Account, Balance, Book

VENUE_COINS = {
    "binance-usdm": {"USDT"},
    "deribit-portfolio-like": {"USDC"},
    "deribit-standard": {"USDC"},
    "derive-pmrm2": {"USDC"},
    "derive-srm": {"USDC"},
    "derive-srm-v2": {"USDC"},
    "drift-v2": {"USDC"},
    "dydx-v4": {"USDC"},
    "emir-ccp": {"USDT"},
    "emir-tiers": {"USDT"},
    "hyperliquid": {"USDC"},
    "linear-tiers": {"USDT", "USDC"},
    "paradex-portfolio": {"USDC"},
}


def test_every_preset_says_what_it_settles_in() -> None:
    found = {
        name: set(load_ruleset(name).collateral.cash_assets) - {"USD"} for name in list_rulesets()
    }
    assert found == VENUE_COINS


def equity_of_files(folder: Path, asset: str, market: MarketView, name: str) -> float:
    times = pa.array([0], pa.timestamp("ns", tz="UTC"))
    pq.write_table(
        pa.table({"ts": times, "account_id": ["a"], "asset": [asset], "amount": [1_000.0]}),
        folder / "collateral.parquet",
    )
    empty = {"account_id": pa.string(), "instrument": pa.string(), "quantity": pa.float64()}
    pq.write_table(
        pa.table(
            {"ts": times[:0], **{key: pa.array([], kind) for key, kind in empty.items()}},
        ),
        folder / "positions.parquet",
    )
    book = read_accounts(folder).book_at(1)
    return float(compute_requirement(book, market, load_ruleset(name)).equity[0])


def equity_of_case(asset: str, name: str) -> float:
    portfolio = {
        "cash": 0.0,
        "stable_price": 1.0,
        "underlyings": {},
        "positions": [],
        "collateral": [{"asset": asset, "amount": 1_000.0, "price": 1.0}],
    }
    line = json.dumps({"id": 1, "portfolio": portfolio, "ruleset": name})
    answer = run_case(line.encode())
    assert "error" not in answer, answer
    return float(answer["maintenance_net_margin"])


@pytest.mark.parametrize("asset", ["USD", "USDT", "USDC"])
@pytest.mark.parametrize("name", list_rulesets())
def test_a_coin_is_worth_the_same_in_an_account_in_files_and_in_a_case(
    tmp_path: Path, market: MarketView, name: str, asset: str
) -> None:
    rules = load_ruleset(name)
    is_cash = asset == "USD" or asset in VENUE_COINS[name]
    assert rules.collateral.is_cash(asset) == is_cash
    if asset == "USDC" and not is_cash:
        pytest.skip("USDC needs bars of its own where it is not cash")
    given = Account("a", 0.0, (), (Balance(asset, 1_000.0),))
    posted = float(compute_requirement(Book.of([given]), market, rules).equity[0])
    expected = 1_000.0 * (1.0 - rules.collateral.haircut(asset))
    assert posted == pytest.approx(1_000.0 if is_cash else expected)
    assert posted == pytest.approx(equity_of_files(tmp_path, asset, market, name))
    assert posted == pytest.approx(equity_of_case(asset, name))


def test_usd_is_cash_where_the_rule_set_does_not_list_it(market: MarketView) -> None:
    content = load_ruleset("hyperliquid").content()
    content["collateral"]["cash_assets"] = ["USDC"]
    rules = ruleset_from_content(content)
    held = Account("a", 0.0, (), (Balance("USD", 7.0), Balance("USDT", 5.0)))
    assert compute_requirement(Book.of([held]), market, rules).equity.tolist() == [7.0]
