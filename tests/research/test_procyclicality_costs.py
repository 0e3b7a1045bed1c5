"""The options of the table of costs, each alone."""

from __future__ import annotations

from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import load_ruleset
from research.experiments.procyclicality_costs import (
    OPTIONS,
    STRESS_RATIOS,
    UNPACED,
    rule_variants,
    state_rule_variants,
    table,
)


def test_each_option_stands_alone() -> None:
    base = load_ruleset("linear-tiers")
    variants = dict(rule_variants(base))
    assert len(variants) == len(OPTIONS) + 1 + len(EMIR_MEASURES)
    assert variants["all of linear-tiers"] == base
    bare = variants["floor and cap alone"].content()["add_on"]
    assert {key: bare[key] for key in UNPACED} == UNPACED
    held = variants["hold in stress above 1.5"].add_on
    assert (held.state_rule, held.stress_ratio, held.dead_band) == ("hold_in_stress", 1.5, 0.0)
    for measure in EMIR_MEASURES:
        floors = variants[f"floor: {measure}"].content()["floors"]
        enabled = {name for name in EMIR_MEASURES if floors.get(name, {}).get("enabled")}
        assert enabled == {measure}


def test_state_rule_is_all_that_differs() -> None:
    base = load_ruleset("emir-tiers")
    (_, without), *held = state_rule_variants(base)
    assert without.add_on.state_rule == "none"
    assert tuple(rules.add_on.stress_ratio for _, rules in held) == STRESS_RATIOS
    for _, rules in held:
        assert rules.add_on.state_rule == "hold_in_stress"
        content = rules.content()
        content["add_on"] |= {"state_rule": "none", "stress_ratio": without.add_on.stress_ratio}
        assert content == without.content()


def test_table_has_a_row_an_option() -> None:
    row = {
        "average_add_on": 0.05,
        "ratio": 1.1,
        "ratio_ci95": None,
        "matched": False,
        "peak_to_trough": 1.5,
        "n_day_max_increase": {"1": 0.1, "5": 0.2, "20": None},
        "response_to_one_extreme_return": 0.05,
    }
    lines = table({"dead band 5%": row}).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| dead band 5% (unmatched) | 5.00% | 1.100 [nan, nan] | 1.50 | 10%")
    assert "| 20% | - | 5% |" in lines[2]
