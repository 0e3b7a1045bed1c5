"""What new risk must meet: no size that is advised triggers a call at the same market."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.add_on.bounds import BINDINGS, AddOn, bound_add_on, opening_requirement
from margin.rules.history import load_history
from margin.rules.ruleset import load_ruleset
from market.core.clock import format_time

PERP = "BTCUSDT-PERP"
AMOUNTS = st.floats(0.0, 1e9)


def add_on(model: float, floor: float, cap: float) -> AddOn:
    one = [np.array([value]) for value in (floor, model, floor, cap, model)]
    level, model_level, low, high, unclamped = one
    return AddOn(level, np.zeros(1, dtype=np.int8), model_level, low, high, unclamped)


@given(
    initial=AMOUNTS,
    maintenance=AMOUNTS,
    model=st.one_of(AMOUNTS, st.just(math.inf), st.just(math.nan)),
    floor=AMOUNTS,
    cap=AMOUNTS,
)
def test_formula(
    initial: float, maintenance: float, model: float, floor: float, cap: float
) -> None:
    wanted = floor if math.isnan(model) else model
    unpaced = min(max(wanted, floor), max(floor, cap))
    (got,) = opening_requirement(
        np.array([initial]), np.array([maintenance]), add_on(model, floor, cap)
    )
    assert got == max(initial, maintenance + unpaced)


def score(endpoint: Any, account: dict[str, Any]) -> dict[str, Any]:
    (decision,) = endpoint.score(account).json()["decisions"]
    return dict(decision)


@pytest.mark.parametrize("model", [True, False])
def test_decision_carries_it(
    serve: Any, account: Any, champion: str, bundles: Any, model: bool
) -> None:
    if not model:
        (bundles.root / "champion").unlink()
    got = score(serve(), account)
    assert (got["model_add_on"] is None) == (not model)
    wanted = got["floor"] if got["model_add_on"] is None else got["model_add_on"]
    unpaced = min(max(wanted, got["floor"]), max(got["floor"], got["cap"]))
    expected = max(got["initial_margin"], got["maintenance_margin"] + unpaced)
    assert got["opening_requirement"] == expected
    assert got["total_requirement"] == got["maintenance_margin"] + got["add_on"]


def test_it_is_not_paced_while_the_add_on_is(serve: Any, account: Any, champion: str) -> None:
    endpoint = serve()
    fresh = score(endpoint, {**account, "account_id": "fresh"})
    held = {"amount": 0.1 * fresh["add_on"], "as_of": fresh["as_of"]}
    paced = score(endpoint, {**account, "previous_add_on": held})
    assert paced["binding"] == "step"
    assert paced["add_on"] < fresh["add_on"]
    assert paced["opening_requirement"] == fresh["opening_requirement"]


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("in_force", [None, 400.0])
def test_largest_size_triggers_no_call_and_leaves_nothing_to_deposit(
    serve: Any, champion: str, side: str, in_force: float | None
) -> None:
    endpoint = serve()
    account: dict[str, Any] = {"account_id": "a", "cash": 1_000.0, "positions": []}
    if in_force is not None:
        now = endpoint.live.newest_close
        assert now is not None
        account["previous_add_on"] = {"amount": in_force, "as_of": format_time(now)}
    asked = [{"account_id": "a", "instrument": PERP, "side": side}]
    body = {"accounts": [account], "largest": asked}
    (found,) = endpoint.client.post("/v1/what-if", json=body).json()["largest"]
    assert abs(found["quantity"]) > 0.0
    got = score(
        endpoint, {**account, "positions": [{"instrument": PERP, "quantity": found["quantity"]}]}
    )
    assert got["equity"] >= got["opening_requirement"] > got["initial_margin"]
    assert got["deposit_to_meet"] == 0.0


@pytest.mark.parametrize("cash", [1e-312, 5e-324, 0.0, 1e-9, 1e300])
@pytest.mark.parametrize("rules", ["linear-tiers", "derive-srm-v2"])
def test_sizes_of_denormal_and_huge_accounts_are_found_in_bounded_time(
    serve: Any, cash: float, rules: str
) -> None:
    endpoint = serve(rules=load_history(rules))
    asked = [
        {"account_id": "a", "instrument": PERP, "side": side}
        for side in ("buy", "sell")
        for _ in range(5)
    ]
    account = {"account_id": "a", "cash": cash, "positions": []}
    response = endpoint.client.post("/v1/what-if", json={"accounts": [account], "largest": asked})
    assert response.status_code == 200
    for found in response.json()["largest"]:
        assert found["unlimited"] or math.isfinite(found["quantity"])


@pytest.mark.parametrize("exponent", [300, 303, 304, 305, 306, 307, 308])
@pytest.mark.parametrize("rules", ["linear-tiers", "binance-usdm", "derive-srm-v2"])
def test_an_account_near_overflow_is_finite_or_an_error_and_leaves_its_neighbour_alone(
    serve: Any, account: Any, champion: str, exponent: int, rules: str
) -> None:
    endpoint = serve(rules=load_history(rules))
    alone = score(endpoint, {**account, "account_id": "alone"})
    for digit in (1.0, 1.65):
        size = {"instrument": PERP, "quantity": float(f"{digit}e{exponent}")}
        huge = {"account_id": f"huge-{digit}", "cash": 0.0, "positions": [size]}
        response = endpoint.score(huge, {**account, "account_id": f"beside-{digit}"})
        assert response.status_code == 200
        body = response.json()
        for error in body["errors"]:
            assert error["account_id"].startswith("huge")
            assert "float64" in error["detail"]
        for decision in body["decisions"]:
            for name in ("equity", "total_requirement", "opening_requirement", "deposit_to_meet"):
                assert math.isfinite(decision[name])
        beside = body["decisions"][-1]
        same = ("equity", "initial_margin", "headroom", "add_on", "opening_requirement", "cap")
        assert [beside[name] for name in same] == [alone[name] for name in same]
    assert endpoint.client.get("/health/ready").status_code == 200


def test_a_flat_account_has_the_reason_that_it_has_no_exposure(serve: Any, champion: str) -> None:
    flat = {"account_id": "flat", "cash": 100.0, "positions": []}
    endpoint = serve()
    for _ in range(2):  # the second follows an add-on in force of 0
        got = score(endpoint, flat)
        assert (got["add_on"], got["opening_requirement"], got["deposit_to_meet"]) == (
            0.0,
            0.0,
            0.0,
        )
        assert got["binding"] in ("floor", "model")
        assert "no exposure" in got["reasons"][0]["text"]


def test_a_level_that_the_step_puts_on_the_cap_is_bound_by_the_cap() -> None:
    level, cap = np.array([300.0]), np.array([300.0])
    wanted, none = np.array([math.inf]), np.zeros(1)
    rules = load_ruleset("linear-tiers").add_on
    # No time has passed since the cap was set: the step allows no rise.
    got = bound_add_on(wanted, none, cap, level, none, np.array([100.0]), False, rules)
    assert (got.level.tolist(), [BINDINGS[code] for code in got.binding]) == ([300.0], ["cap"])
    flat = bound_add_on(wanted, none, none, none, none, none, False, rules)
    assert (flat.level.tolist(), [BINDINGS[code] for code in flat.binding]) == ([0.0], ["floor"])


@pytest.mark.parametrize("rules", ["binance-usdm", "derive-srm-v2", "emir-tiers"])
def test_presets_ask_no_less_to_open_than_the_rules(serve: Any, account: Any, rules: str) -> None:
    got = score(serve(rules=load_history(rules)), account)
    assert got["opening_requirement"] >= got["initial_margin"]
    assert got["opening_requirement"] >= got["maintenance_margin"] + got["floor"]
