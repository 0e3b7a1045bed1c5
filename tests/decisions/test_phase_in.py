"""Decisions during a phase-in: levels, explanation, largest size and replay agree."""

from __future__ import annotations

from typing import Any

import pytest

from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.clock import DAY, format_time

PERP = "BTCUSDT-PERP"


def phased(ruleset: RuleSet, now: int, weight: float) -> RuleHistory:
    """The rules with a phase-in of 100 days that has come to a weight."""
    content = ruleset.content()
    starts = now - round(100 * weight) * DAY
    content["add_on"]["phase_in"] = {
        "starts": format_time(starts),
        "ends": format_time(starts + 100 * DAY),
    }
    return RuleHistory.constant(ruleset_from_content(content))


def score(endpoint: Any, account: dict[str, Any]) -> dict[str, Any]:
    (decision,) = endpoint.score(account, explain=True).json()["decisions"]
    return dict(decision)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_model_counts_with_its_weight_and_the_floors_in_full(
    serve: Any, ruleset: RuleSet, account: Any, champion: str, weight: float
) -> None:
    plain = serve()
    before = score(plain, account)
    assert before["floor"] < before["model_add_on"]
    endpoint = serve(rules=phased(ruleset, plain.live.newest_close, weight))
    got = score(endpoint, {**account, "account_id": "phased"})
    assert got["model_add_on"] == before["model_add_on"], "what the model asks for is named"
    expected = max(before["floor"], weight * min(before["model_add_on"], before["cap"]))
    assert got["add_on"] == expected
    assert got["opening_requirement"] == max(
        got["initial_margin"], got["maintenance_margin"] + expected
    )
    explained = got["explain"]
    reasons = {reason["name"]: reason for reason in explained["reasons"]}
    if weight == 1.0:
        assert "model_weight" not in explained
        assert "phase_in" not in reasons
    else:
        assert explained["model_weight"] == weight
        assert explained["model_level"] == before["explain"]["model_level"]
        assert reasons["phase_in"]["value"] == weight
        assert "rule floors count in full" in reasons["phase_in"]["text"]
    path = f"/v1/decisions/{got['decision_id']}/explanation"
    replayed = endpoint.client.get(path).json()
    assert replayed["explain"] == explained, "the replay weighs as the decision did"


def test_largest_size_is_that_of_the_weighted_level(
    serve: Any, ruleset: RuleSet, champion: str
) -> None:
    plain = serve()
    endpoint = serve(rules=phased(ruleset, plain.live.newest_close, 0.5))
    account: dict[str, Any] = {"account_id": "a", "cash": 1_000.0, "positions": []}
    body = {
        "accounts": [account],
        "largest": [{"account_id": "a", "instrument": PERP, "side": "buy"}],
    }
    sizes = [
        each.client.post("/v1/what-if", json=body).json()["largest"][0]["quantity"]
        for each in (plain, endpoint)
    ]
    assert sizes[0] < sizes[1], "half the add-on leaves room for more"
    got = score(endpoint, {**account, "positions": [{"instrument": PERP, "quantity": sizes[1]}]})
    assert got["equity"] >= got["opening_requirement"]
    assert got["deposit_to_meet"] == 0.0
