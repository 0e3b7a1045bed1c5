"""Cash is what the rule set names as cash, at the endpoint, in account files and in cases alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

# Classes of conftest.py, which no test can import, are Any here.
Endpoint: TypeAlias = Any
Venue: TypeAlias = Any

STABLE = {"USD": 500.0, "USDT": 700.0, "USDC": 300.0}


def account(name: str, entry: float, balances: Mapping[str, float]) -> dict[str, Any]:
    """A small position, some cash, and balances of other money."""
    return {
        "account_id": name,
        "cash": 1_000.0,
        "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.01, "entry_price": entry}],
        "collateral": [{"asset": asset, "amount": held} for asset, held in balances.items()],
    }


def holders(entry: float) -> list[dict[str, Any]]:
    """One account without other money, one with each of it, and one with all that is cash."""
    return [account("none", entry, {})] + [
        account(asset, entry, {asset: held}) for asset, held in STABLE.items()
    ]


@pytest.fixture(scope="module")
def over_http(served: Endpoint) -> dict[str, Any]:
    """Decisions by account; an account that cannot be decided has its error instead."""
    body = {"accounts": holders(served.market.closes["BTCUSDT"])}
    answer = served.post("/v1/score", body)
    found = {decision["account_id"]: decision for decision in answer["decisions"]}
    return found | {error["account_id"]: None for error in answer["errors"]}


@pytest.fixture(scope="module")
def from_files(
    served: Endpoint, account_files: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The same from account files."""
    accounts = holders(served.market.closes["BTCUSDT"])
    folder = account_files(tmp_path_factory.mktemp("accounts"), served.at(), accounts)
    rows = served.score_files(folder, served.at())
    return {account["account_id"]: rows.get(account["account_id"]) for account in accounts}


def _daily_closes(endpoint: Endpoint) -> list[float]:
    """Closes of whole days up to the newest bar."""
    table = pq.read_table(endpoint.market.bars / "BTCUSDT.parquet")
    closes: list[float] = table["close"].to_pylist()
    return closes[23::24]


@pytest.fixture(scope="module")
def from_cases(served: Endpoint, preset: str) -> dict[str, Any]:
    """The same as margin cases: net maintenance margin and equity by account."""
    price = served.market.closes["BTCUSDT"]
    underlying = {
        "spot": price,
        "spot_confidence": 1.0,
        "perp_price": price,
        "perp_confidence": 1.0,
        "expiries": [],
    }
    lines = []
    for holder in holders(price):
        portfolio = {
            "cash": holder["cash"],
            "stable_price": 1.0,
            "underlyings": {"BTC": underlying},
            "positions": [
                {
                    "kind": "perp",
                    "underlying": "BTC",
                    "quantity": 0.01,
                    "unrealised_pnl": 0.0,
                    "unrealised_funding": 0.0,
                }
            ],
            "collateral": [{**balance, "price": 1.0} for balance in holder["collateral"]],
            "history": {"until": served.at(), "closes": {"BTC": _daily_closes(served)}},
        }
        lines.append({"id": holder["account_id"], "ruleset": preset, "portfolio": portfolio})
    cases, out = served.folder / "cases.jsonl", served.folder / "margins.jsonl"
    cases.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = served.cli("margin", "--cases", cases, "--out", out)
    results = {line["id"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert done.code == 0, results
    return results


def credit(answers: Mapping[str, Any], asset: str) -> float | None:
    """What a balance adds to headroom; None where the account is not decided."""
    if answers[asset] is None:
        return None
    added: float = answers[asset]["headroom"] - answers["none"]["headroom"]
    return added


@pytest.mark.parametrize("asset", STABLE)
def test_money_counts_alike_at_the_endpoint_in_files_and_in_cases(
    venue: Venue,
    over_http: Mapping[str, Any],
    from_files: Mapping[str, Any],
    from_cases: Mapping[str, Any],
    asset: str,
) -> None:
    """Cash counts in full; other money with its haircut, where its price is known at all."""
    in_case = from_cases[asset]["maintenance_net_margin"]
    in_case -= from_cases["none"]["maintenance_net_margin"]
    http, files = credit(over_http, asset), credit(from_files, asset)
    if asset in venue.cash_assets:
        assert in_case == pytest.approx(STABLE[asset], rel=1e-9)
        assert http is not None
    assert (http is None) == (files is None)
    if http is not None:
        assert http == pytest.approx(in_case, rel=1e-9, abs=1e-9)
        assert files == pytest.approx(in_case, rel=1e-9, abs=1e-9)


def test_the_same_account_has_the_same_headroom_in_all_three_ways(
    over_http: Mapping[str, Any], from_files: Mapping[str, Any], from_cases: Mapping[str, Any]
) -> None:
    for name, decision in over_http.items():
        if decision is None:
            continue
        for figure in ("equity", "headroom", "initial_margin", "maintenance_margin"):
            assert from_files[name][figure] == pytest.approx(decision[figure], rel=1e-12)
        case = from_cases[name]
        assert case["maintenance_net_margin"] == pytest.approx(decision["headroom"], rel=1e-9)
        initial = decision["equity"] - decision["initial_margin"]
        assert case["initial_net_margin"] == pytest.approx(initial, rel=1e-9)


def test_the_default_rules_take_all_three_coins_as_cash(restated: Callable[[str], Venue]) -> None:
    assert set(STABLE) <= set(restated("linear-tiers").cash_assets)


def _extra_haircut_rules(folder: Path, collateral: Mapping[str, Any]) -> Path:
    """A flat rule set with these figures of collateral."""
    lines = [
        'name = "extra-haircuts"',
        'version = "1"',
        'engine = "tier"',
        'source = "test"',
        'effective_from = ""',
        'effective_to = ""',
        'spot = "linear"',
        "[tier]",
        "brackets = [{ maintenance_rate = 0.02, initial_rate = 0.04 }]",
        "[collateral]",
        *(f"{key} = {text}" for key, text in collateral.items()),
    ]
    path = folder / "extra-haircuts.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def haircuts(start: Callable[..., Endpoint], tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """Initial margin takes 30% of BTC and all of ETH beyond what maintenance margin takes."""
    rules = _extra_haircut_rules(
        tmp_path_factory.mktemp("rules"),
        {
            "cash_assets": '["USD"]',
            "default_haircut": "0.2",
            "haircuts": "{ BTC = 0.0, ETH = 0.1 }",
            "initial_extra_haircuts": "{ BTC = 0.3, ETH = 0.9 }",
        },
    )
    return start(rules)


@pytest.mark.parametrize("asset", ["BTC", "ETH", "SOL"])
def test_initial_margin_takes_its_extra_haircut(haircuts: Endpoint, asset: str) -> None:
    """Notional 10,000 and collateral of 100,000: BTC asks 400 + 30% of it, 30,400."""
    prices = haircuts.market.closes
    holder = {
        "account_id": asset,
        "cash": 0.0,
        "positions": [
            {
                "instrument": "ETHUSDT-PERP",
                "quantity": 10_000.0 / prices["ETHUSDT"],
                "entry_price": prices["ETHUSDT"],
            }
        ],
        "collateral": [{"asset": asset, "amount": 100_000.0 / prices[f"{asset}USDT"]}],
    }
    maintenance_haircut, extra = {"BTC": (0.0, 0.3), "ETH": (0.1, 0.9), "SOL": (0.2, 0.0)}[asset]
    decision = haircuts.decision(holder)
    assert decision["initial_margin"] == pytest.approx(400.0 + extra * 100_000.0, rel=1e-9)
    assert decision["maintenance_margin"] == pytest.approx(200.0, rel=1e-9)
    equity = (1.0 - maintenance_haircut) * 100_000.0
    assert decision["equity"] == pytest.approx(equity, rel=1e-9)
    assert decision["opening_requirement"] >= decision["initial_margin"]


def test_cash_that_the_rules_name_takes_no_haircut_twice(haircuts: Endpoint) -> None:
    """A balance in a cash asset is cash: it takes neither the default nor an extra haircut."""
    holder = {
        "account_id": "usd",
        "cash": 1.0,
        "positions": [],
        "collateral": [{"asset": "USD", "amount": 99.0}],
    }
    decision = haircuts.decision(holder)
    assert decision["equity"] == 100.0
    assert decision["initial_margin"] == 0.0
