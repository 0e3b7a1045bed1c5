"""Versions of the rules: each decision follows the one in force at its own time."""

from __future__ import annotations

from typing import Any

import pytest

from decisions.replay import replay
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, ruleset_from_content
from market.core.clock import DAY, HOUR, MINUTE, format_time


def version(
    ruleset: RuleSet, label: str, begin: int | None, end: int | None, **tables: dict[str, Any]
) -> RuleSet:
    """The rule set with other dates, and keys of some tables replaced."""
    content = ruleset.content()
    content["version"] = label
    content["effective_from"] = "" if begin is None else format_time(begin)
    content["effective_to"] = "" if end is None else format_time(end)
    for name, table in tables.items():
        content[name] |= table
    return ruleset_from_content(content)


DOUBLED = {"brackets": [{"maintenance_rate": 0.04, "initial_rate": 0.08}]}
"""Twice the margin of ``linear-tiers``."""


@pytest.fixture
def change(market: Any) -> int:
    """When the second version takes over: half an hour after the newest close."""
    return int(market.panel.closes[-1]) + 30 * MINUTE


@pytest.fixture
def versions(ruleset: RuleSet, change: int) -> list[RuleSet]:
    return [
        version(ruleset, "1", None, change),
        version(ruleset, "2", change, change + DAY, tier=DOUBLED),
    ]


def test_decisions_before_and_after_a_change_follow_their_rules_and_replay(
    serve: Any, account: dict[str, Any], versions: list[RuleSet], change: int
) -> None:
    endpoint = serve(rules=RuleHistory.of(versions))
    before = endpoint.score(account, as_of=format_time(change - 1_000)).json()["decisions"][0]
    after = endpoint.score(account, as_of=format_time(change)).json()["decisions"][0]
    assert [before["ruleset"], after["ruleset"]] == [v.sha256 for v in versions]
    assert after["maintenance_margin"] == pytest.approx(2 * before["maintenance_margin"])
    for decision in (before, after):
        found = replay(endpoint.ledger, decision["decision_id"], lambda sha: pytest.fail(sha))
        assert found.equal, found.differences


def test_a_quote_that_moves_the_markets_clock_moves_the_rules(
    serve: Any, account: dict[str, Any], versions: list[RuleSet], change: int
) -> None:
    endpoint = serve(rules=RuleHistory.of(versions))

    def ruleset() -> tuple[Any, Any]:
        shown = endpoint.client.get("/v1/ruleset").json()
        return shown["sha256"], endpoint.score(account).json()["decisions"][0]["ruleset"]

    assert ruleset() == (versions[0].sha256,) * 2
    quote = {"instrument": "USDT", "mark": 1.0, "ts": format_time(change)}
    endpoint.client.post("/v1/market/quotes", json={"quotes": [quote]})
    assert ruleset() == (versions[1].sha256,) * 2


def test_what_if_at_a_time_uses_the_rules_of_that_time(
    serve: Any, account: dict[str, Any], versions: list[RuleSet], change: int
) -> None:
    endpoint = serve(rules=RuleHistory.of(versions))
    body = {"accounts": [account], "changes": [{"account_id": "acc-1", "deposit": 1.0}]}
    answers = [
        endpoint.client.post("/v1/what-if", json=body | {"as_of": format_time(as_of)}).json()
        for as_of in (change - 1_000, change)
    ]
    named = [a[side]["decisions"][0]["ruleset"] for a in answers for side in ("before", "after")]
    assert named == [versions[0].sha256] * 2 + [versions[1].sha256] * 2


def test_the_rules_in_force_at_a_time_are_shown(
    serve: Any, versions: list[RuleSet], change: int
) -> None:
    client = serve(rules=RuleHistory.of(versions)).client

    def shown(as_of: int) -> Any:
        return client.get("/v1/ruleset", params={"as_of": format_time(as_of)})

    assert client.get("/v1/ruleset").json()["content"]["version"] == "1"
    assert shown(change - 1_000).json()["content"]["version"] == "1"
    assert shown(change).json()["sha256"] == versions[1].sha256
    assert shown(change).json()["content"] == versions[1].content()
    none = shown(change + DAY)
    assert none.status_code == 404
    assert "no version" in none.json()["detail"]
    odd = client.get("/v1/ruleset", params={"as_of": "tomorrow, perhaps"})
    assert odd.status_code == 422
    assert "ISO 8601" in odd.json()["detail"]


def test_without_rules_in_force_nothing_is_decided(
    serve: Any, account: dict[str, Any], ruleset: RuleSet, market: Any
) -> None:
    newest = int(market.panel.closes[-1])
    endpoint = serve(rules=RuleHistory.of([version(ruleset, "1", None, newest)]))
    answer = endpoint.score(account)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:margincast:problem:no-rules"
    asked = endpoint.score(account, as_of=format_time(newest + HOUR))
    assert asked.status_code == 422
    assert "no version of rule set" in asked.json()["detail"]
    ready = endpoint.client.get("/health/ready")
    assert ready.status_code == 503
    assert "no version of rule set" in ready.json()["reasons"][0]
    assert endpoint.client.get("/v1/ruleset").status_code == 404
    assert endpoint.client.get("/metrics").status_code == 200


def test_one_rule_set_for_all_times_is_used_beyond_its_dates_with_a_reason(
    serve: Any, account: dict[str, Any], champion: str, ruleset: RuleSet, change: int
) -> None:
    endpoint = serve(rules=RuleHistory.constant(version(ruleset, "1", change, None)))
    decision = endpoint.score(account).json()["decisions"][0]
    (expired,) = [r for r in decision["reasons"] if r["name"] == "out_of_force"]
    assert format_time(change) in expired["text"]
    assert endpoint.client.get("/health/ready").json() == {
        "status": "degraded",
        "reasons": [expired["text"]],
    }
    inside = endpoint.score(account, as_of=format_time(change)).json()["decisions"][0]
    assert "out_of_force" not in {r["name"] for r in inside["reasons"]}


def test_a_champion_without_a_horizon_of_the_rules_in_force_does_not_answer(
    serve: Any, account: dict[str, Any], bundles: Any, ruleset: RuleSet, change: int
) -> None:
    champion = bundles.promote(bundles.write(horizons=(8, 24)))
    versions = [
        version(ruleset, "1", None, change, add_on={"p_star": {"8": 0.01, "24": 0.02}}),
        version(ruleset, "2", change, None),
    ]
    endpoint = serve(rules=RuleHistory.of(versions))
    assert endpoint.client.get("/health/ready").json() == {"status": "ready", "reasons": []}
    before = endpoint.score(account).json()["decisions"][0]
    degraded = endpoint.score(account, as_of=format_time(change)).json()["decisions"][0]
    assert before["model"] == champion
    assert degraded["model"] is None
    assert degraded["binding"] == "fallback"
    assert "lacks horizons [1] h" in degraded["degraded"]
    quote = {"instrument": "USDT", "mark": 1.0, "ts": format_time(change)}
    endpoint.client.post("/v1/market/quotes", json={"quotes": [quote]})
    (reason,) = endpoint.client.get("/health/ready").json()["reasons"]
    assert champion[:12] in reason


def test_cash_of_any_version_can_be_quoted(serve: Any, ruleset: RuleSet, change: int) -> None:
    versions = [
        version(ruleset, "1", None, change),
        version(ruleset, "2", change, None, collateral={"cash_assets": ["USDC"]}),
    ]
    quotes = [{"instrument": name, "mark": 1.0} for name in ("USDT", "USDC", "DAI")]
    answer = serve(rules=RuleHistory.of(versions)).client.post(
        "/v1/market/quotes", json={"quotes": quotes}
    )
    statuses = [result["status"] for result in answer.json()["results"]]
    assert statuses == ["applied", "applied", "rejected"]
