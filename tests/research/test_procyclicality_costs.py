"""The options of the table of costs, each alone."""

from __future__ import annotations

from margin.rules.floors import EMIR_MEASURES
from margin.rules.ruleset import load_ruleset
from research.experiments.procyclicality_costs import OPTIONS, UNPACED, rule_variants, table


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


def test_table_has_a_row_an_option() -> None:
    row = {
        "average_add_on": 0.05,
        "ratio_to_raw": 1.1,
        "ratio_to_raw_ci95": None,
        "matched": False,
        "peak_to_trough": 1.5,
        "n_day_max_increase": {"1": 0.1, "5": 0.2, "20": None},
        "response_to_one_extreme_return": 0.05,
    }
    lines = table({"options": {"dead band 5%": row}})
    assert len(lines) == 3
    assert lines[2].startswith("| dead band 5% (unmatched) | 5.00% | 1.10 [nan, nan] | 1.50 | 10%")
    assert "| 20% | - | 5% |" in lines[2]
