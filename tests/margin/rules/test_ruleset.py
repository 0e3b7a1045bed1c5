"""Rule sets: every wrong key is refused by name, and the identity is the content's."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from margin.engines.tier.rules import TierRules
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from market.bars.outlier_filter import OutlierFilter
from market.core.errors import RuleSetError


def with_change(ruleset: RuleSet, path: str, value: Any) -> dict[str, Any]:
    content = ruleset.content()
    *tables, key = path.split(".")
    table = content
    for name in tables:
        table = table[name]
    table[key] = value
    return content


def test_embedded_preset_is_two_and_four_per_cent(linear_tiers: RuleSet) -> None:
    assert "linear-tiers" in list_rulesets()
    (bracket,) = linear_tiers.engine_rules(TierRules).table_of("ANYTHING").brackets
    assert (bracket.maintenance_rate, bracket.initial_rate) == (0.02, 0.04)
    assert linear_tiers.add_on.targets == {1: 0.002, 8: 0.01, 24: 0.02}
    assert linear_tiers.floors.enabled() == ("liquidity", "stale_data")


def test_price_guard_is_what_the_rules_say_and_can_be_switched_off(linear_tiers: RuleSet) -> None:
    assert linear_tiers.price_guard.outlier_filter() == OutlierFilter(0.25, 0.5, 0.1)
    wide = ruleset_from_content(with_change(linear_tiers, "price_guard.band", 0.4))
    assert wide.price_guard.outlier_filter() == OutlierFilter(0.4, 0.5, 0.1)
    hard = ruleset_from_content(with_change(linear_tiers, "price_guard.hard_band", 3.0))
    assert hard.price_guard.outlier_filter() == OutlierFilter(0.25, 0.5, 0.1, 3.0)
    assert hard.sha256 != linear_tiers.sha256
    # A hard band that is not named is no narrower than the others; a named one decides.
    wider = ruleset_from_content(with_change(linear_tiers, "price_guard.band", 2.0)).price_guard
    assert wider.outlier_filter() == OutlierFilter(2.0, 0.5, 0.1, math.exp(2.0))
    huge = ruleset_from_content(with_change(linear_tiers, "price_guard.band", 1e300)).price_guard
    assert huge.outlier_filter() == OutlierFilter(1e300, 0.5, 0.1, math.inf)
    off = ruleset_from_content(with_change(linear_tiers, "price_guard.enabled", False))
    assert off.price_guard.outlier_filter() is None
    assert len({linear_tiers.sha256, wide.sha256, off.sha256}) == 3


def test_every_preset_loads_and_states_its_source() -> None:
    for name in list_rulesets():
        ruleset = load_ruleset(name)
        assert ruleset.name == name
        assert ruleset.source


@pytest.mark.parametrize("name", list_rulesets())
def test_replay_from_ledger_json_gives_the_same_identity(name: str) -> None:
    ruleset = load_ruleset(name)
    again = ruleset_from_content(json.loads(json.dumps(ruleset.content())))
    assert again.sha256 == ruleset.sha256
    assert again == ruleset
    assert (again != ruleset) is False
    assert hash(again) == hash(ruleset)


@pytest.mark.parametrize("name", list_rulesets())
def test_a_rule_set_reaches_another_process_as_it_is(name: str) -> None:
    ruleset = load_ruleset(name)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(ruleset, protocol))  # noqa: S301 - made here
        assert again == ruleset
        assert again.table == ruleset.table
    assert copy.deepcopy(ruleset) == ruleset


def test_identity_ignores_spelling_and_sees_every_value(
    linear_tiers: RuleSet, tmp_path: Path
) -> None:
    text = (
        'name = "linear-tiers"\nversion = "1"\nengine = "tier"\n'
        f"source = {json.dumps(linear_tiers.source)}\n"
        "tier = { brackets = [ { initial_rate = 4e-2, maintenance_rate = 0.020 } ] }\n"
        "[collateral]\nhaircuts = { ETH = 0.05, BTC = 0.05 }\n"
    )
    path = tmp_path / "same.toml"
    path.write_text(text)
    assert load_ruleset(path).sha256 == linear_tiers.sha256
    changed = ruleset_from_content(with_change(linear_tiers, "add_on.dead_band", 0.06))
    assert changed.sha256 != linear_tiers.sha256
    assert changed != linear_tiers


def test_targets_are_those_listed_in_rising_order(linear_tiers: RuleSet) -> None:
    content = with_change(linear_tiers, "add_on.p_star", {"24": 0.05, "8": 0.01})
    assert list(ruleset_from_content(content).add_on.targets.items()) == [(8, 0.01), (24, 0.05)]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("surprise", 1, "surprise"),
        ("tier.surprise", 1, "surprise"),
        ("add_on.p_star", {"2.5": 0.01}, "p_star"),
        ("add_on.p_star", {"8": 1.1}, "p_star"),
        ("add_on.p_star", {"8": -0.1}, "p_star"),
        ("add_on.p_star", {}, "p_star"),
        ("price_guard.surprise", 1, "surprise"),
        ("price_guard.band", -0.1, "band"),
        ("price_guard.agreement", -0.1, "agreement"),
        ("price_guard.hard_band", 1.0, "hard_band"),
        ("price_guard.hard_band", 0.5, "hard_band"),
        ("price_guard.cash_band", -0.1, "cash_band"),
        ("add_on.dead_band", "wide", "dead_band"),
        ("add_on.dead_band", float("nan"), "dead_band"),
        ("add_on.cap_im_multiple", float("inf"), "cap_im_multiple"),
        ("add_on.cap_im_multiple", -1.0, "cap_im_multiple"),
        ("add_on.state_rule", "sometimes", "state_rule"),
        ("floors.liquidity.half_spread", -0.1, "half_spread"),
        ("floors.stale_data.unknown_age_hours", -1.0, "unknown_age_hours"),
        ("collateral.haircuts", {"BTC": 1.5}, "haircuts"),
        ("collateral.default_haircut", -0.1, "default_haircut"),
        ("spot", "cash", "spot"),
        ("engine", "scenario", "engine"),
        ("version", "", "version"),
        ("effective_from", "yesterday", "effective_from"),
        ("tier.brackets", [], "brackets"),
        ("tier.brackets", [{"maintenance_rate": 0.02}], "initial_rate"),
        ("tier.brackets", [{"maintenance_rate": -0.1, "initial_rate": 0.1}], "maintenance_rate"),
        ("tier.brackets", [{"maintenance_rate": 0.1, "initial_rate": 1.1}], "initial_rate"),
        ("tier.brackets", [{"maintenance_rate": 0.2, "initial_rate": 0.1}], "maintenance_rate"),
        (
            "tier.brackets",
            [{"maintenance_rate": 0.1, "initial_rate": 0.2, "upper_bound": 9.0}],
            "upper_bound",
        ),
        (
            "tier.symbols",
            {
                "BTCUSDT": {
                    "brackets": [
                        {"maintenance_rate": 0.1, "initial_rate": 0.2},
                        {"maintenance_rate": 0.1, "initial_rate": 0.2},
                    ]
                }
            },
            "upper_bound",
        ),
        (
            "tier.brackets",
            [
                {"maintenance_rate": 0.1, "initial_rate": 0.2, "upper_bound": 9.0},
                {"maintenance_rate": 0.1, "initial_rate": 0.2, "upper_bound": 9.0},
                {"maintenance_rate": 0.1, "initial_rate": 0.2},
            ],
            "upper_bound",
        ),
        (
            "tier.brackets",
            [
                {"maintenance_rate": 0.1, "initial_rate": 0.2, "upper_bound": 9.0},
                {"maintenance_rate": 0.05, "initial_rate": 0.2},
            ],
            "maintenance_rate",
        ),
    ],
)
def test_impossible_values_are_refused_with_their_key(
    linear_tiers: RuleSet, path: str, value: object, named: str
) -> None:
    with pytest.raises(RuleSetError, match=named):
        ruleset_from_content(with_change(linear_tiers, path, value))


def test_validity_must_not_end_before_it_begins(linear_tiers: RuleSet) -> None:
    content = with_change(linear_tiers, "effective_from", "2025-01-06T00:00:00Z")
    content["effective_to"] = "2025-01-06"
    with pytest.raises(RuleSetError, match="effective_from"):
        ruleset_from_content(content)


def test_errors_name_the_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    with pytest.raises(RuleSetError, match=r"broken\.toml cannot be read"):
        load_ruleset(broken)
    broken.write_text("name = ")
    with pytest.raises(RuleSetError, match=r"broken\.toml is not TOML"):
        load_ruleset(str(broken))
    broken.write_text('name = "x"')
    with pytest.raises(RuleSetError, match=r"broken\.toml.*version"):
        load_ruleset(broken)
    with pytest.raises(RuleSetError, match="linear-tiers"):
        load_ruleset("no-such-rules")
