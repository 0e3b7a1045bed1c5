"""Case files: worked portfolios, errors by key, order kept."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from margin.cases.margin_cases import run_case, run_cases
from margin.rules.ruleset import RuleSet
from market.core.errors import CaseError

CASE: dict[str, Any] = {
    "id": "one",
    "portfolio": {
        "cash": 1_000.0,
        "stable_price": 1.0,
        "underlyings": {
            "BTC": {"spot": 100_000.0, "perp_price": 100_010.0, "expiries": []},
            "ETH": {"spot": 2_000.0},
        },
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": -0.1, "entry_price": 100_000.0},
            {"kind": "spot", "underlying": "ETH", "quantity": 1.0},
        ],
        "collateral": [
            {"asset": "USDT", "amount": 5.0, "price": 0.9},
            {"asset": "BTC", "amount": 0.01, "price": 100_000.0},
        ],
    },
    "ruleset": "linear-tiers",
    "expected": {"ignored": True},
}


def run(case: object) -> dict[str, Any]:
    return run_case(json.dumps(case).encode())


def changed(path: str, value: object = None, *, drop: bool = False) -> dict[str, Any]:
    case = copy.deepcopy(CASE)
    *parents, key = path.split(".")
    table: Any = case
    for name in parents:
        table = table[int(name) if name.isdigit() else name]
    if drop:
        del table[key]
    else:
        table[key] = value
    return case


def test_worked_case(linear_tiers: RuleSet) -> None:
    got = run(CASE)
    # Unrealised -0.1 * 10 = -1; collateral 5 + 1 000, haircut 5% of 1 000; notional 12 001.
    assert got["id"] == "one"
    assert got["mark_to_market"] == pytest.approx(1_000 - 1 + 1_005)
    assert got["maintenance_net_margin"] == pytest.approx(2_004 - 50 - 240.02)
    assert got["initial_net_margin"] == pytest.approx(2_004 - 50 - 480.04)
    assert got["ruleset_sha256"] == linear_tiers.sha256
    assert got["components"]["maintenance"] == pytest.approx(
        {
            "cash": 1_000.0,
            "unrealised_pnl": -1.0,
            "collateral": 1_005.0,
            "collateral_haircut": -50.0,
            "tier_margin": -240.02,
        }
    )
    for level in ("initial", "maintenance"):
        parts = math.fsum(got["components"][level].values())
        assert parts == got[f"{level}_net_margin"]


def test_unrealised_fields_of_the_vectors_take_the_place_of_an_entry() -> None:
    position = {
        "kind": "perp",
        "underlying": "BTC",
        "quantity": -0.1,
        "unrealised_pnl": -3.0,
        "unrealised_funding": 0.5,
    }
    got = run(changed("portfolio.positions", [position]))
    assert got["components"]["initial"]["unrealised_pnl"] == -2.5
    position["entry_price"] = 1.0
    assert "both" in run(changed("portfolio.positions", [position]))["error"]


def test_haircuts_on_the_line_and_debts() -> None:
    balance = {"asset": "BTC", "amount": 1.0, "price": 100.0}
    line = {**balance, "maintenance_haircut": 0.1, "initial_extra_haircut": 0.2}
    got = run(changed("portfolio.collateral", [line]))["components"]
    assert got["maintenance"]["collateral_haircut"] == pytest.approx(-10)
    assert got["initial"]["collateral_haircut"] == pytest.approx(-30)
    debt = run(changed("portfolio.collateral", [{**line, "amount": -1.0}]))["components"]
    assert debt["initial"]["collateral"] == -100
    assert debt["initial"]["collateral_haircut"] == 0
    depegged = changed("portfolio.stable_price", 0.5)
    depegged["portfolio"]["collateral"] = [balance]
    assert run(depegged)["components"]["initial"]["collateral"] == 200


def test_given_brackets_override_the_preset(linear_tiers: RuleSet) -> None:
    brackets = [
        {"maintenance_rate": 0.004, "initial_rate": 0.008, "upper_bound": 5_000.0},
        {"maintenance_rate": 0.01, "initial_rate": 0.02},
    ]
    for name in ("linear-tiers", "my-venue"):
        ruleset = {"engine": "tier", "name": name, "parameters": {"brackets": brackets}}
        got = run(changed("ruleset", ruleset))
        # 10 001 * 1% - 5 000 * 0.6%, and 2 000 * 0.4%.
        assert got["components"]["maintenance"]["tier_margin"] == pytest.approx(-70.01 - 8)
        assert got["ruleset_sha256"] != linear_tiers.sha256
    symbols = {"BTCUSDT": {"brackets": [{"maintenance_rate": 0.5, "initial_rate": 1.0}]}}
    by_symbol = {"engine": "tier", "name": "linear-tiers", "parameters": {"symbols": symbols}}
    got = run(changed("ruleset", by_symbol))
    assert got["components"]["maintenance"]["tier_margin"] == pytest.approx(-5_000.5 - 40)


def test_preset_as_object_equals_preset_by_name() -> None:
    given = {"engine": "tier", "name": "linear-tiers", "parameters": {}}
    assert run(changed("ruleset", given)) == run(CASE)
    del given["parameters"]
    assert "missing required key ruleset.parameters" in run(changed("ruleset", given))["error"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_case_with_a_number_that_json_lacks_keeps_its_id(number: str) -> None:
    line = json.dumps({**CASE, "id": "odd"}).replace("1000.0", number, 1)
    result = run_case(line.encode(), 7)
    assert result["id"] == "odd"
    assert "not JSON" in result["error"]
    assert run_case(b"{nothing", 7)["error"].startswith("line 7: the line is not JSON")


@pytest.mark.parametrize(
    "path",
    [
        "id",
        "portfolio",
        "ruleset",
        "portfolio.cash",
        "portfolio.stable_price",
        "portfolio.underlyings",
        "portfolio.positions",
        "portfolio.collateral",
        "portfolio.positions.0.kind",
        "portfolio.positions.0.quantity",
        "portfolio.positions.0.underlying",
        "portfolio.underlyings.BTC.spot",
        "portfolio.underlyings.BTC.perp_price",
        "portfolio.collateral.1.price",
    ],
)
def test_missing_required_key_is_named(path: str) -> None:
    got = run(changed(path, drop=True))
    assert set(got) == {"id", "error"}
    assert path.rpartition(".")[2] in got["error"]
    assert "missing" in got["error"]
    assert got["id"] == (None if path == "id" else "one")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("ruleset", {"engine": "scenario", "name": "x", "parameters": {}}, "scenario"),
        ("ruleset", {"engine": "standard", "name": "x", "parameters": {}}, "depeg_threshold"),
        ("ruleset", {"name": "linear-tiers"}, "ruleset.engine"),
        ("ruleset", {"engine": "tier"}, "name"),
        (
            "ruleset",
            {"engine": "tier", "name": "linear-tiers", "parameters": {}, "grid": [1]},
            "grid",
        ),
        ("ruleset", {"engine": "tier", "name": "linear-tiers", "parameters": {"x": 1}}, "x"),
        ("ruleset", {"engine": "tier", "name": "mine", "parameters": {"brackets": 3}}, "brackets"),
        ("ruleset", "no-such-preset", "linear-tiers"),
        ("ruleset", "../linear-tiers.toml", "no preset"),
        ("ruleset", 5, "preset"),
        ("portfolio.cash", "much", "cash"),
        ("portfolio.cash", None, "cash"),
        ("portfolio.stable_price", 0.0, "stable_price"),
        ("portfolio.positions.0.kind", "option", "option"),
        ("portfolio.positions.0.underlying", "DOGE", "DOGE"),
        ("portfolio.underlyings.ETH.spot", 0.0, "spot"),
        ("portfolio.underlyings.BTC.perp_price", -1.0, "perp_price"),
        ("portfolio.collateral.1.price", 0.0, "price"),
        ("portfolio.collateral.1.maintenance_haircut", 1.5, "maintenance_haircut"),
        ("portfolio.positions.0.quantity", 1e306, "float64"),
        ("portfolio.underlyings.ETH.spot", "dear", "underlying 'ETH'"),
        ("portfolio.positions.1.quantity", None, "positions[1] (spot ETH)"),
        ("portfolio.collateral.1.amount", True, "collateral[1] (BTC)"),
        ("portfolio.positions.0.unrealized_pnl", 5.0, "unrealized_pnl"),
        ("portfolio.underlyings.ETH.spot_confidense", 0.1, "spot_confidense"),
        ("portfolio.collaterals", [], "collaterals"),
    ],
)
def test_impossible_case_says_what_is_wrong(path: str, value: object, named: str) -> None:
    got = run(changed(path, value))
    assert set(got) == {"id", "error"}
    assert got["id"] == "one"
    assert named in got["error"]


@pytest.mark.parametrize("grid", [[], None, {}, [{"spot": -0.1, "vol": "up"}], [{"vol": "up"}]])
def test_a_grid_that_is_none_is_refused_and_not_that_of_the_preset(grid: object) -> None:
    ruleset = {"engine": "scenario", "name": "derive-pmrm2", "parameters": {}, "grid": grid}
    assert "grid" in run(changed("ruleset", ruleset))["error"]
    other = ruleset | {"engine": "standard", "name": "derive-srm"}
    assert "grid" in run(changed("ruleset", other))["error"]
    misspelt = {"engine": "tier", "name": "linear-tiers", "parameters": {}, "gird": []}
    assert "'gird'" in run(changed("ruleset", misspelt))["error"]


@pytest.mark.parametrize("name", [None, True, 1.5, [1], {}])
def test_an_id_must_tell_cases_apart(name: object) -> None:
    assert "id" in run(changed("id", name))["error"]


def test_a_number_that_json_lacks_is_named_with_its_place() -> None:
    for number in ("NaN", "-Infinity", "1e999"):
        text = json.dumps(CASE).replace('"spot": 2000.0', f'"spot": {number}')
        assert "portfolio.underlyings.ETH.spot" in run_case(text.encode())["error"]


def test_depth_without_end_is_an_error_of_its_line() -> None:
    assert "not JSON" in run_case(b"[" * 200_000)["error"]


def test_a_scenario_beyond_float64_is_no_result() -> None:
    # The mark is finite, four times it is not: JSON has no infinity.
    case = changed(
        "portfolio.positions", [{"kind": "perp", "underlying": "BTC", "quantity": 1e303}]
    )
    assert "float64" in run({**case, "ruleset": "derive-pmrm2"})["error"]


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"id": NaN}', b"\xff", b'"text"', b"null"])
def test_line_that_is_no_json_object_is_an_error_line(line: bytes) -> None:
    got = run_case(line)
    assert got["id"] is None
    assert "line" in got["error"]


def test_file_keeps_order_skips_blanks_and_counts_failures(tmp_path: Path) -> None:
    lines = [json.dumps({**CASE, "id": i}) for i in range(4)]
    lines[1] = json.dumps({"id": 1})
    lines.insert(2, "")
    lines.append("{broken")
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines))
    assert run_cases(source, target) == 2
    results = [json.loads(line) for line in target.read_text().splitlines()]
    assert [result["id"] for result in results] == [0, 1, 2, 3, None]
    assert ["error" in result for result in results] == [False, True, False, False, True]
    assert results[0] == {**run(CASE), "id": 0}


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    with pytest.raises(CaseError, match=r"none\.jsonl"):
        run_cases(missing, tmp_path / "out.jsonl")
    missing.write_text(json.dumps(CASE))
    with pytest.raises(CaseError, match="another file"):
        run_cases(missing, missing)
    assert missing.read_text() == json.dumps(CASE)
