"""Rule versions that move requirements too far do not serve until a person adopted them."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet, load_ruleset
from market.core.errors import RuleSetError
from pipelines.config.config import Config, load_config
from pipelines.registry.rule_adoption import ADOPTION, check_rules, promote_rules

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any

RULES = """
name = "linear-tiers"
version = "{version}"
engine = "tier"
source = "a test"
effective_from = "{begin}"
effective_to = "{end}"

[[tier.brackets]]
maintenance_rate = {rate}
initial_rate = 0.04

[promotion]
max_requirement_change = {limit}
"""


def configured(workspace: Workspace, *versions: str) -> Config:
    """A configuration with these dated versions, or one file for all times."""
    folder = workspace.folder / "rules"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.toml"):
        old.unlink()
    for k, text in enumerate(versions):
        (folder / f"{k}.toml").write_text(text)
    config = load_config(workspace.config)
    rules = config.rules.model_copy(update={"ruleset": str(folder)})
    return config.model_copy(update={"rules": rules})


def version(name: str, rate: float, begin: str = "", end: str = "", limit: float = 0.05) -> str:
    return RULES.format(version=name, rate=rate, begin=begin, end=end, limit=limit)


def adoptions(config: Config) -> list[dict[str, Any]]:
    with Ledger(config.ledger.url) as ledger:
        return [record.payload for record in ledger.records(ADOPTION)]


def test_a_training_adopts_the_first_rules(workspace: Workspace) -> None:
    config = load_config(workspace.config)
    (payload,) = adoptions(config)
    assert payload["contents"] == [load_ruleset("linear-tiers").sha256]
    check_rules(config)
    assert len(adoptions(config)) == 1, "unchanged rules need no record"


def test_a_version_within_the_limit_is_adopted_with_its_change(workspace: Workspace) -> None:
    config = configured(workspace, version("2", 0.0202))
    check_rules(config)
    (change,) = adoptions(config)[-1]["changes"]
    assert 0.0 < change["change"] <= 0.05
    assert (change["before"], change["version"], change["within_limit"]) == ("1", "2", True)
    check_rules(config)
    assert len(adoptions(config)) == 2


def test_a_version_beyond_the_limit_blocks_until_it_is_promoted(workspace: Workspace) -> None:
    config = configured(workspace, version("2", 0.04, limit=10.0))
    with pytest.raises(RuleSetError, match=r"version '2' moves .* limit 5\.0%.*promote --rules"):
        check_rules(config)
    assert len(adoptions(config)) == 1
    report = promote_rules(config, "the venue raised its rates")
    assert report["changes"][0]["within_limit"] is False
    recorded = adoptions(config)[-1]
    assert recorded["reason"] == "the venue raised its rates"
    assert recorded["by"]
    check_rules(config)
    assert len(adoptions(config)) == 2


def test_versions_to_come_are_compared_with_those_that_they_follow(workspace: Workspace) -> None:
    """The second is close to the first, and the third far from the second."""
    dated = (
        version("2", 0.02, end="2030-01-01T00:00:00Z"),
        version("3", 0.0202, "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
        version("4", 0.04, "2031-01-01T00:00:00Z"),
    )
    check_rules(configured(workspace, *dated[:2]))
    with pytest.raises(RuleSetError, match=r"version '4' .* against version '3'"):
        check_rules(configured(workspace, *dated))


def test_rules_cannot_be_promoted_without_a_reason(workspace: Workspace) -> None:
    with pytest.raises(RuleSetError, match="needs the reason"):
        promote_rules(load_config(workspace.config), "  ")


def test_verb_and_endpoint_hold_to_it(workspace: Workspace) -> None:
    folder = workspace.folder / "changed.toml"
    folder.write_text(version("2", 0.04))
    workspace.config.write_text(f'{workspace.config.read_text()}\n[rules]\nruleset = "{folder}"\n')
    assert "promote --rules REASON" in workspace.refusal("serve")
    assert "without a bundle" in workspace.refusal("promote", "f" * 64, "--rules", "reviewed")
    report = workspace.report("promote", "--rules", "reviewed")
    assert report["reason"] == "reviewed"
    rules: RuleSet = load_ruleset(folder)
    assert adoptions(load_config(workspace.config))[-1]["contents"] == [rules.sha256]
