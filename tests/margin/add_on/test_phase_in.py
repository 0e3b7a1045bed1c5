"""The phase-in: the model counts more and more, the rule floors always in full."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from margin.add_on.bounds import (
    BINDINGS,
    add_on_cap,
    bound_add_on,
    opening_requirement,
    phased_level,
)
from margin.rules.ruleset import AddOnRules, load_ruleset, ruleset_from_content
from market.core.clock import HOUR, parse_time
from market.core.errors import RuleSetError

AMOUNTS = st.floats(0.0, 1e9)
LEVELS = st.one_of(AMOUNTS, st.just(math.inf), st.just(math.nan), st.floats(-1e3, 0.0))
PREVIOUS = st.one_of(AMOUNTS, st.just(math.nan))
WEIGHTS = st.floats(0.0, 1.0)


def level_at(weight: float, account: dict[str, float]) -> tuple[float, str, float]:
    """Level, what bound it and opening requirement at a weight."""
    one = {name: np.array([value]) for name, value in account.items()}
    margin, floor = one["margin"], one["floor"]
    cap = add_on_cap(margin, AddOnRules())
    counted = phased_level(one["model"], floor, cap, weight)
    found = bound_add_on(
        counted, floor, cap, one["previous"], np.ones(1), margin, False, AddOnRules()
    )
    opening = opening_requirement(margin, 0.5 * margin, found)
    return float(found.level[0]), BINDINGS[found.binding[0]], float(opening[0])


ACCOUNTS = st.fixed_dictionaries(
    {"model": LEVELS, "floor": AMOUNTS, "margin": AMOUNTS, "previous": PREVIOUS}
)


@given(account=ACCOUNTS, weights=st.tuples(WEIGHTS, WEIGHTS))
def test_level_is_within_the_rules_and_rises_with_the_weight(
    account: dict[str, float], weights: tuple[float, float]
) -> None:
    highest = max(account["floor"], 3.0 * account["margin"])
    low, high = (level_at(weight, account) for weight in sorted(weights))
    for level, _, _ in (low, high):
        assert account["floor"] <= level <= highest
    assert low[0] <= high[0]
    assert low[2] <= high[2], "the opening requirement rises with it"


@given(account=ACCOUNTS)
def test_full_weight_changes_no_bit_and_none_leaves_the_floor(account: dict[str, float]) -> None:
    model = np.array([account["model"]])
    cap = np.array([3.0 * account["margin"]])
    counted = phased_level(model, np.array([account["floor"]]), cap, 1.0)
    assert counted.tobytes() == model.tobytes()
    level, _, _ = level_at(0.0, account | {"previous": math.nan})
    assert level == account["floor"]


def test_half_the_weight_counts_half_the_level_up_to_the_cap() -> None:
    account = {"model": 80.0, "floor": 10.0, "margin": 40.0, "previous": math.nan}
    assert level_at(0.5, account)[:2] == (40.0, "model")
    assert level_at(0.5, account | {"model": math.inf})[:2] == (60.0, "model")
    assert level_at(1.0, account | {"model": math.inf})[:2] == (120.0, "cap")
    assert level_at(0.1, account)[:2] == (10.0, "floor")


def content(**phase_in: str) -> dict[str, Any]:
    plain = load_ruleset("linear-tiers").content()
    plain["add_on"]["phase_in"] = phase_in
    return plain


def test_weight_rises_linearly_between_its_times() -> None:
    rules = ruleset_from_content(
        content(starts="2025-01-01T00:00:00Z", ends="2025-01-05T00:00:00Z")
    ).add_on
    begin = parse_time("2025-01-01T00:00:00Z")
    hours = {-5: 0.0, 0: 0.0, 24: 0.25, 48: 0.5, 96: 1.0, 1000: 1.0}
    assert {h: rules.model_weight(begin + h * HOUR) for h in hours} == hours
    assert load_ruleset("linear-tiers").add_on.model_weight(begin) == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"starts": "2025-01-02T00:00:00Z", "ends": "2025-01-01T00:00:00Z"}, "is not before ends"),
        ({"starts": "soon", "ends": "2025-01-01T00:00:00Z"}, "phase_in.starts"),
        ({"starts": "2025-01-01T00:00:00Z"}, "ends"),
    ],
)
def test_impossible_times_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(RuleSetError, match=message):
        ruleset_from_content(content(**given))


def test_example_of_the_page_is_a_phase_in() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text("utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    plain = load_ruleset("linear-tiers").content()
    plain["add_on"] |= tomllib.loads(block)["add_on"]
    rules = ruleset_from_content(plain).add_on
    assert rules.model_weight(parse_time("2026-02-15T00:00:00Z")) == 0.5
