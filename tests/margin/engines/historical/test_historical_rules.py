"""Tables of the simulation: what EMIR asks for is checked on load, and one table a rule set."""

from __future__ import annotations

from typing import Any

import pytest

from margin.engines.historical.rules import SimulationRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.errors import RuleSetError

MEASURES = ("buffer", "stressed_weight", "long_volatility")


@pytest.fixture(scope="module")
def emir() -> RuleSet:
    return load_ruleset("emir-ccp")


def changed(emir: RuleSet, **values: Any) -> dict[str, Any]:
    """Its content with other figures in the simulation; a dict goes into the table it names."""
    content = emir.content()
    for key, value in values.items():
        if isinstance(value, dict):
            content["simulation"].setdefault(key, {}).update(value)
        else:
            content["simulation"][key] = value
    return content


def test_preset_states_the_figures_of_the_articles(emir: RuleSet) -> None:
    own = emir.engine_rules(SimulationRules)
    assert emir.engine == "scenario"
    assert emir.table == "simulation"
    assert emir.regulation == "emir"
    assert (own.confidence, own.period_days, own.offset_cap) == (0.99, 2, 0.8)
    assert own.lookback_days >= 365
    assert own.initial_multiple >= 1.0
    assert len(own.measures()) == 1
    assert {"correlation", "wrong_way", "liquidity", "stale_data"} == set(emir.floors.enabled())


@pytest.mark.parametrize("measure", MEASURES)
def test_each_measure_alone_is_accepted(emir: RuleSet, measure: str) -> None:
    content = changed(emir, **{name: {"enabled": name == measure} for name in MEASURES})
    assert ruleset_from_content(content).engine_rules(SimulationRules).measures() == (measure,)


def test_none_or_several_measures_are_refused(emir: RuleSet) -> None:
    none = changed(emir, **{name: {"enabled": False} for name in MEASURES})
    with pytest.raises(RuleSetError, match="exactly one of"):
        ruleset_from_content(none)
    two = changed(emir, buffer={"enabled": True}, long_volatility={"enabled": True})
    with pytest.raises(RuleSetError, match="one measure against"):
        ruleset_from_content(two)


def test_a_floor_and_a_simulated_measure_are_two(emir: RuleSet) -> None:
    content = emir.content()
    content["floors"]["volatility"] = {"enabled": True}
    with pytest.raises(RuleSetError, match=r"are simulation.long_volatility, volatility"):
        ruleset_from_content(content)
    content["simulation"]["long_volatility"]["enabled"] = False
    assert "volatility" in ruleset_from_content(content).floors.enabled()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"confidence": 0.985}, "Article 24"),
        ({"lookback_days": 364}, "Article 25"),
        ({"period_days": 1}, "Article 26"),
        ({"product": "otc"}, "Article 24"),
        ({"product": "otc", "confidence": 0.995}, "Article 26"),
        ({"offset_cap": 0.81}, "Article 27"),
        ({"unknown_move": 0.09}, "unknown_move"),
        ({"least_known_share": 0.5}, "least_known_share"),
        (
            {"long_volatility": {"enabled": False}, "buffer": {"enabled": True, "buffer": 0.2}},
            r"28\(1\)\(a\)",
        ),
        (
            {
                "long_volatility": {"enabled": False},
                "buffer": {"enabled": True, "schedule": [[0.9, 1.0], [2.0, 0.0]]},
            },
            "schedule",
        ),
        (
            {
                "long_volatility": {"enabled": False},
                "stressed_weight": {"enabled": True, "weight": 0.24},
            },
            r"28\(1\)\(b\)",
        ),
        ({"initial_multiple": 0.9}, "initial_multiple"),
        ({"period_days": 0}, "period_days"),
        ({"measure": "mean"}, "measure"),
        ({"filter": {"least_ratio": 1.5}}, "least_ratio"),
        ({"unknown_key": 1}, "unknown_key"),
    ],
)
def test_figures_below_the_articles_are_refused(
    emir: RuleSet, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(RuleSetError, match=named):
        ruleset_from_content(changed(emir, **values))


def test_without_the_claim_lower_figures_are_accepted(emir: RuleSet) -> None:
    content = changed(emir, confidence=0.95, period_days=1, lookback_days=100)
    del content["regulation"]
    content["simulation"].pop("long_volatility")
    assert ruleset_from_content(content).engine_rules(SimulationRules).measures() == ()


def test_otc_figures_are_accepted_where_all_of_them_are_kept(emir: RuleSet) -> None:
    otc = changed(emir, product="otc", confidence=0.995, period_days=5)
    assert ruleset_from_content(otc).engine_rules(SimulationRules).product == "otc"


def test_a_scenario_rule_set_has_a_grid_or_a_history(emir: RuleSet) -> None:
    both = emir.content() | {"tier": load_ruleset("linear-tiers").content()["tier"]}
    with pytest.raises(RuleSetError, match="no other engine's"):
        ruleset_from_content(both)
    neither = emir.content()
    del neither["regulation"]
    del neither["simulation"]
    with pytest.raises(RuleSetError, match=r"\[scenario\] or \[simulation\]"):
        ruleset_from_content(neither)
    with pytest.raises(RuleSetError, match="SimulationRules"):
        _ = load_ruleset("linear-tiers").engine_rules(SimulationRules)
