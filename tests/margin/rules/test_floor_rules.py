"""Tables of the floors: what EMIR asks for is checked on load, absent tables change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import RuleSetError


@pytest.fixture(scope="module")
def emir() -> RuleSet:
    return load_ruleset("emir-tiers")


def with_floor(ruleset: RuleSet, table: str, **values: Any) -> dict[str, Any]:
    content = ruleset.content()
    content["floors"].setdefault(table, {}).update(values)
    return content


def test_emir_preset_states_the_figures_of_the_articles(emir: RuleSet) -> None:
    floors = emir.content()["floors"]
    assert emir.regulation == "emir"
    assert floors["coverage"]["otc"] == {"confidence": 0.995, "period_days": 5.0}
    assert floors["coverage"]["listed"] == {"confidence": 0.99, "period_days": 2.0}
    assert floors["coverage"]["lookback_days"] >= 365
    assert floors["correlation"]["offset_cap"] == 0.8
    assert floors["stressed_buffer"]["buffer"] == floors["stressed_weight"]["weight"] == 0.25
    assert len(set(emir.floors.enabled()) & set(EMIR_MEASURES)) == 1
    assert {"liquidity", "stale_data", "wrong_way"} <= set(emir.floors.enabled())
    assert set(floors["liquidity"]["depth"]) >= {"BTCUSDT", "ETHUSDT"}


def test_floors_that_a_rule_set_does_not_use_are_no_part_of_its_identity(
    linear_tiers: RuleSet,
) -> None:
    content = linear_tiers.content()
    assert set(content["floors"]) == {"liquidity", "stale_data"}
    assert not {"depth", "depth_of_others"} & set(content["floors"]["liquidity"])
    assert "regulation" not in content
    off = with_floor(linear_tiers, "volatility", enabled=False)
    assert ruleset_from_content(off).floors.enabled() == ("liquidity", "stale_data")


@pytest.mark.parametrize("measure", EMIR_MEASURES)
def test_each_measure_alone_is_accepted(emir: RuleSet, measure: str) -> None:
    content = emir.content()
    for name in EMIR_MEASURES:
        content["floors"][name]["enabled"] = name == measure
    assert measure in ruleset_from_content(content).floors.enabled()


@pytest.mark.parametrize(
    "active",
    [(), ("volatility", "stressed_buffer"), EMIR_MEASURES, ("stressed_weight", "volatility")],
)
def test_none_or_several_measures_are_refused(emir: RuleSet, active: tuple[str, ...]) -> None:
    content = emir.content()
    for name in EMIR_MEASURES:
        content["floors"][name]["enabled"] = name in active
    with pytest.raises(RuleSetError, match="exactly one"):
        ruleset_from_content(content)
    del content["regulation"]
    enabled = ruleset_from_content(content).floors.enabled()
    assert set(enabled) & set(EMIR_MEASURES) == set(active)


@pytest.mark.parametrize(
    ("table", "values", "named"),
    [
        ("coverage", {"otc": {"confidence": 0.99, "period_days": 5.0}}, "Article 24"),
        ("coverage", {"listed": {"confidence": 0.98, "period_days": 2.0}}, "Article 24"),
        ("coverage", {"lookback_days": 364.0}, "Article 25"),
        ("coverage", {"otc": {"confidence": 0.995, "period_days": 4.0}}, "Article 26"),
        ("coverage", {"listed": {"confidence": 0.99, "period_days": 1.0}}, "Article 26"),
        ("correlation", {"offset_cap": 0.81}, "Article 27"),
        ("correlation", {"enabled": False}, "Article 27"),
        ("stressed_buffer", {"buffer": 0.2, "enabled": True}, r"28\(1\)\(a\)"),
        (
            "stressed_buffer",
            {"schedule": [[0.5, 1.0], [0.6, 0.0]], "enabled": True},
            r"schedule\[0\]\[0\] = 0.5; Article 28\(1\)\(a\)",
        ),
        ("stressed_weight", {"weight": 0.2, "enabled": True}, r"28\(1\)\(b\)"),
    ],
)
def test_figures_below_the_standard_are_refused_with_their_article(
    emir: RuleSet, table: str, values: dict[str, Any], named: str
) -> None:
    content = with_floor(emir, table, **values)
    content["floors"]["volatility"]["enabled"] = not table.startswith("stressed")
    with pytest.raises(RuleSetError, match=named):
        ruleset_from_content(content)
    del content["regulation"]
    ruleset_from_content(content)


@pytest.mark.parametrize(
    ("table", "values", "named"),
    [
        ("coverage", {"product": "swap"}, "product"),
        ("coverage", {"listed": {"confidence": 1.1, "period_days": 2.0}}, "confidence"),
        ("coverage", {"listed": {"confidence": 0.99, "period_days": 0.0}}, "period_days"),
        ("coverage", {"unknown_volatility": 0.0}, "unknown_volatility"),
        ("volatility", {"unknown_long_volatility": 0.0}, "unknown_long_volatility"),
        ("stressed_weight", {"weight": 1.5}, "weight"),
        ("stressed_buffer", {"schedule": []}, "schedule"),
        ("stressed_buffer", {"schedule": [[1.5, 0.9], [3.0, 0.0]]}, "schedule"),
        ("stressed_buffer", {"schedule": [[1.5, 1.0], [1.5, 0.0]]}, "schedule"),
        ("stressed_buffer", {"schedule": [[1.5, 1.0], [2.0, 0.2], [3.0, 0.3]]}, "schedule"),
        ("stressed_buffer", {"schedule": [[-0.1, 1.0]]}, "schedule"),
        ("correlation", {"offset_cap": -0.1}, "offset_cap"),
        ("correlation", {"full_divergence": -0.1}, "full_divergence"),
        ("wrong_way", {"haircut": 0.1}, "haircut"),
        ("liquidity", {"depth_of_others": {"half_spread": 0.1, "slippage": []}}, "slippage"),
        (
            "liquidity",
            {"depth": {"BTCUSDT": {"half_spread": 0.1, "slippage": [[1e3, 0.05]]}}},
            "slippage",
        ),
        (
            "liquidity",
            {"depth": {"BTCUSDT": {"half_spread": 0.1, "slippage": [[1e3, 0.2], [1e3, 0.3]]}}},
            "slippage",
        ),
        (
            "liquidity",
            {"depth": {"BTCUSDT": {"half_spread": 0.1, "slippage": [[1e3, 0.3], [1e4, 0.2]]}}},
            "slippage",
        ),
    ],
)
def test_impossible_figures_are_refused_with_their_key(
    emir: RuleSet, table: str, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(RuleSetError, match=named):
        ruleset_from_content(with_floor(emir, table, **values))


@pytest.mark.parametrize("missing", ["depth", "depth_of_others"])
def test_depth_without_its_fallback_is_refused(emir: RuleSet, missing: str) -> None:
    content = emir.content()
    del content["floors"]["liquidity"][missing]
    with pytest.raises(RuleSetError, match="depth and depth_of_others"):
        ruleset_from_content(content)


def test_floor_on_coverage_without_the_coverage_is_refused(linear_tiers: RuleSet) -> None:
    with pytest.raises(RuleSetError, match=r"\[floors.coverage\]"):
        ruleset_from_content(with_floor(linear_tiers, "wrong_way", enabled=True))
