"""``margincast policy``: p* by its costs, written into a rule set that serves."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow.parquet as pq
import pytest

from margin.rules.ruleset import load_ruleset
from pipelines.config.config import load_config
from pipelines.jobs.fits.policy import raised_version, scaled_p_star
from pipelines.registry.rule_adoption import check_rules

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
TrainedMarket: TypeAlias = Any
Workspace: TypeAlias = Any

SMALL = {"MARGINCAST__POLICY__ACCOUNT_HOURS": "2000"}


@pytest.mark.parametrize(
    ("before", "after"), [("1", "1-p1"), ("1-p1", "1-p2"), ("2024", "2024-p1")]
)
def test_versions_rise(before: str, after: str) -> None:
    assert raised_version(before) == after


def test_a_factor_keeps_the_ratio_between_horizons_up_to_certainty() -> None:
    rules = load_ruleset("linear-tiers")
    assert scaled_p_star(rules, 1.0) == rules.add_on.p_star
    assert scaled_p_star(rules, 0.5) == {"1": 0.001, "8": 0.005, "24": 0.01}
    assert scaled_p_star(rules, 80.0) == {"1": 0.16, "8": 0.8, "24": 1.0}


def test_policy_writes_rules_that_load_and_serve(workspace: Workspace) -> None:
    out = workspace.folder / "chosen.toml"
    bundle = workspace.bundles / workspace.champion
    dear = {"MARGINCAST__POLICY__COLLATERAL_COST": "1000.0"}
    report = workspace.report("policy", "--bundle", bundle, "--out", out, **SMALL, **dear)
    assert report["costs"] == {"collateral": 1000.0, "call": 0.0001, "uncovered": 1.0}
    (_, end), (begin, _) = report["calibration"]["span"], report["test"]["span"]
    assert end == begin
    choice = report["choice"]
    assert not choice["kept"]
    assert choice["factor"] > 1.0, "so dear a collateral asks for less"
    rules, before = load_ruleset(out), load_ruleset("linear-tiers")
    assert rules.sha256 == report["written"]["sha256"]
    assert rules.version == "1-p1"
    assert rules.add_on.p_star == choice["p_star"] == scaled_p_star(before, choice["factor"])
    reasoning = rules.content()["add_on"]["reasoning"]
    assert reasoning["ruleset_sha256"] == before.sha256
    assert reasoning["bundle_sha256"] == workspace.champion
    assert reasoning["data_sha256"] == report["calibration"]["data_sha256"]
    assert [reasoning["begin"], reasoning["end"]] == report["calibration"]["span"]
    (row,) = [c for c in report["calibration"]["cost"] if c["factor"] == choice["factor"]]
    assert reasoning["chosen"]["cost"] == row["total"]
    assert reasoning["cost_difference_ci95"] == choice["interval"]

    workspace.config.write_text(f'{workspace.config.read_text()}\n[rules]\nruleset = "{out}"\n')
    scores = workspace.folder / "scores.parquet"
    workspace.report(
        *("score", "--accounts", workspace.accounts, "--as-of", report["test"]["span"][1]),
        *("--out", scores),
    )
    assert set(pq.read_table(scores)["ruleset"].to_pylist()) == {rules.sha256}
    workspace.run("promote", "--rules", "chosen by cost")
    check_rules(load_config(workspace.config))  # what serve asks before it starts


def test_policy_refuses_what_it_cannot_use(trained: TrainedMarket) -> None:
    workspace = trained.workspace
    bundle = workspace.bundles / trained.champion
    assert "policy.call_cost" in workspace.refusal(
        "policy", "--bundle", bundle, MARGINCAST__POLICY__CALL_COST="-1"
    )
    assert "does not end in .toml" in workspace.refusal(
        "policy", "--bundle", bundle, "--out", workspace.folder / "rules.json", **SMALL
    )
    assert "not a bundle folder" in workspace.refusal(
        "policy", "--bundle", workspace.folder / "none"
    )
