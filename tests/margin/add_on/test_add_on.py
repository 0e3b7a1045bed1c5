"""The add-on: the rules have the last word whatever the model returns, and say which word."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from margin.add_on.bounds import (
    BINDINGS,
    AddOn,
    add_on_cap,
    bound_add_on,
    deposit_to_meet,
    in_stress,
)
from margin.rules.ruleset import AddOnRules

NAN, INF = math.nan, math.inf
RULES = AddOnRules()
HOLD = AddOnRules(state_rule="hold_in_stress")

any_float = st.floats(allow_nan=True, allow_infinity=True)
money = st.floats(0, 1e12)


def bound(
    model: float,
    floor: float = 0.0,
    cap: float = 1_000.0,
    previous: float = NAN,
    hours: float = 1.0,
    initial_margin: float = 100.0,
    stress: bool = False,
    rules: AddOnRules = RULES,
) -> AddOn:
    return bound_add_on(
        np.array([model]),
        np.array([floor]),
        np.array([cap]),
        np.array([previous]),
        np.array([hours]),
        np.array([initial_margin]),
        stress,
        rules,
    )


def outcome(*args: float, **kwargs: object) -> tuple[float, str]:
    add_on = bound(*args, **kwargs)  # type: ignore[arg-type]
    return float(add_on.level[0]), BINDINGS[add_on.binding[0]]


# --- the bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": 40.0}, (40.0, "model")),
        ({"model": 0.0}, (0.0, "model")),
        ({"model": -3.0}, (0.0, "model")),
        ({"model": 40.0, "floor": 50.0}, (50.0, "floor")),
        ({"model": -INF, "floor": 50.0}, (50.0, "floor")),
        ({"model": 1_001.0}, (1_000.0, "cap")),
        ({"model": INF}, (1_000.0, "cap")),
        ({"model": NAN, "floor": 7.0}, (7.0, "fallback")),
        ({"model": NAN, "floor": 7.0, "previous": 500.0}, (7.0, "fallback")),
        # A floor above the cap leaves one level only.
        ({"model": INF, "floor": 2_000.0}, (2_000.0, "floor")),
        ({"model": 1_500.0, "floor": 2_000.0}, (2_000.0, "floor")),
        ({"model": 5_000.0, "floor": 7.0, "cap": NAN}, (7.0, "floor")),
        ({"model": 5_000.0, "floor": 7.0, "cap": INF}, (7.0, "floor")),
        # Dead-band: 5% around 100.
        ({"model": 104.0, "previous": 100.0}, (100.0, "dead_band")),
        ({"model": 96.0, "previous": 100.0}, (100.0, "dead_band")),
        ({"model": 100.0, "previous": 100.0}, (100.0, "model")),
        # Step: half the initial margin of 100 an hour.
        ({"model": 300.0, "previous": 100.0, "hours": 2.0}, (200.0, "step")),
        ({"model": 300.0, "previous": 100.0, "hours": 10.0}, (300.0, "model")),
        ({"model": INF, "previous": 100.0, "hours": 1.0}, (150.0, "step")),
        ({"model": INF, "previous": 100.0, "hours": 99.0}, (1_000.0, "cap")),
        # Release: half of the way in 12 hours.
        ({"model": 20.0, "previous": 100.0, "hours": 12.0}, (60.0, "release")),
        ({"model": 20.0, "previous": 100.0, "hours": 24.0}, (40.0, "release")),
        ({"model": 0.0, "previous": 100.0, "hours": 0.0}, (100.0, "release")),
        ({"model": 0.0, "previous": 100.0, "hours": -5.0}, (100.0, "release")),
        ({"model": 20.0, "previous": 100.0, "hours": INF}, (20.0, "model")),
        # A previous level over the cap of now, or under its floor, does not survive the clamp.
        ({"model": 20.0, "previous": 5_000.0, "hours": 1.0}, (1_000.0, "cap")),
        ({"model": 10.2, "previous": 10.0, "floor": 15.0}, (15.0, "floor")),
        # No previous level.
        ({"model": 300.0, "previous": INF}, (300.0, "model")),
        ({"model": 300.0, "previous": -1.0}, (300.0, "model")),
        ({"model": 300.0, "previous": 100.0, "hours": NAN}, (300.0, "model")),
    ],
)
def test_worked_bounds(changes: dict[str, float], expected: tuple[float, str]) -> None:
    assert outcome(**changes) == expected


def test_release_without_half_life_is_immediate() -> None:
    at_once = AddOnRules(release_half_life_h=0.0)
    assert outcome(20.0, previous=100.0, hours=0.0, rules=at_once) == (20.0, "model")


def test_stress_holds_levels_only_where_the_rules_declare_it() -> None:
    assert outcome(20.0, previous=100.0, hours=12.0, stress=True, rules=HOLD) == (100.0, "release")
    assert outcome(20.0, previous=100.0, hours=12.0, stress=True) == (60.0, "release")
    assert outcome(20.0, previous=100.0, hours=12.0, rules=HOLD) == (60.0, "release")
    # It stops no rise, and no floor.
    assert outcome(120.0, previous=100.0, stress=True, rules=HOLD) == (120.0, "model")
    assert outcome(20.0, floor=130.0, previous=100.0, stress=True, rules=HOLD) == (130.0, "floor")


def test_stress_is_declared_above_the_ratio_only() -> None:
    assert in_stress(2.01, HOLD)
    assert not in_stress(2.0, HOLD)
    assert not in_stress(NAN, HOLD)
    assert not in_stress(9.0, RULES)


@given(
    model=any_float,
    floor=money,
    cap=any_float,
    previous=any_float,
    hours=any_float,
    initial_margin=any_float,
    stress=st.booleans(),
    rules=st.sampled_from([RULES, HOLD, AddOnRules(release_half_life_h=0.0, dead_band=0.0)]),
)
@example(INF, 0.0, 0.0, 1e308, INF, 0.0, False, RULES)
@example(INF, 0.0, 5.0, 0.0, INF, 0.0, False, RULES)
@example(2.0, 0.0, 1.0, 1.0, 1.0, -1.0, False, RULES)
def test_level_stays_within_floor_and_cap_for_every_float(
    model: float,
    floor: float,
    cap: float,
    previous: float,
    hours: float,
    initial_margin: float,
    stress: bool,
    rules: AddOnRules,
) -> None:
    add_on = bound(model, floor, cap, previous, hours, initial_margin, stress, rules)
    level, binding = float(add_on.level[0]), BINDINGS[add_on.binding[0]]
    highest = max(floor, cap) if math.isfinite(cap) else floor
    assert floor <= level <= highest
    truth = {
        "floor": level == floor,
        "cap": level == cap < max(model, previous),
        "model": level == max(model, 0.0),
        "dead_band": level == previous != model,
        # A step goes up, and under an initial margin below zero down.
        "step": level < model
        and (level <= previous if initial_margin < 0.0 else previous <= level),
        "release": max(model, 0.0) < level <= previous,
        "fallback": math.isnan(model) and level == floor,
    }
    assert truth[binding]
    again = bound(model, floor, cap, previous, hours, initial_margin, stress, rules)
    assert (again.level[0], again.binding[0]) == (level, add_on.binding[0])


def test_accounts_do_not_mix() -> None:
    add_on = bound_add_on(
        np.array([40.0, NAN, INF, 5.0]),
        np.array([0.0, 7.0, 0.0, NAN]),
        np.array([99.0, 99.0, 99.0, 99.0]),
        np.full(4, NAN),
        np.full(4, NAN),
        np.full(4, 33.0),
        False,
        RULES,
    )
    np.testing.assert_array_equal(add_on.level, [40.0, 7.0, 99.0, NAN])
    bindings = [BINDINGS[code] for code in add_on.binding]
    assert bindings == ["model", "fallback", "cap", "fallback"]


def test_cap_is_a_multiple_of_initial_margin() -> None:
    assert add_on_cap(np.array([0.0, 50.0]), RULES).tolist() == [0.0, 150.0]


# --- the deposit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "headroom", "expected"),
    [
        (100.0, 100.0, 0.0),
        (100.0, 250.0, 0.0),
        (100.07, 0.0, 100.07),
        (0.07, 0.0, 0.07),
        (0.29, 0.0, 0.29),
        (1.005, 0.0, 1.01),
        (0.3, 0.1, 0.2),
        (10.0, -5.5, 15.5),
        (1e-9, 0.0, 0.01),
        (5e-324, 0.0, 0.01),
        (2.0**60, 0.0, 2.0**60),
        (INF, 0.0, INF),
    ],
)
def test_worked_cents(level: float, headroom: float, expected: float) -> None:
    assert deposit_to_meet(np.array([level]), np.array([headroom])).tolist() == [expected]


def test_deposit_of_an_unknown_level_is_unknown() -> None:
    got = deposit_to_meet(np.array([NAN, 1.0, INF]), np.array([1.0, NAN, INF]))
    assert np.isnan(got).all()


@given(cents=st.integers(0, 10**13))
def test_exact_cents_are_not_raised(cents: int) -> None:
    exact = float(Decimal(cents) / 100)
    assert deposit_to_meet(np.array([exact]), np.zeros(1))[0] == exact


def in_decimals(level: float, headroom: float) -> float:
    """The deposit by decimal arithmetic on the shortest text of the difference."""
    if not level > headroom:
        return 0.0
    cents = Decimal(repr(level - headroom)).quantize(Decimal("0.01"), rounding=ROUND_CEILING)
    while headroom + float(cents) < level:
        cents += Decimal("0.01")
    return float(cents)


@given(
    level=st.floats(0, 1e14) | st.integers(0, 10**15).map(lambda cents: cents / 100),
    headroom=st.floats(-1e14, 1e14) | st.integers(-(10**15), 10**15).map(lambda c: c / 100),
)
@example(9_999_999_999_999.99, 0.0)
@example(10_000_000_000_000.01, 0.0)
@example(9_999_999_999_999.99, -0.005)
def test_deposits_are_those_of_decimal_arithmetic(level: float, headroom: float) -> None:
    levels, headrooms = np.array([level, level, 1.0]), np.array([headroom, level, 0.995])
    got = deposit_to_meet(levels, headrooms).tolist()
    assert got == [in_decimals(level, headroom), 0.0, in_decimals(1.0, 0.995)]


@given(level=st.floats(0, 1e11), headroom=st.floats(-1e11, 1e11), more=st.floats(0, 1e11))
@example(1.1, 0.9, 0.0)
@example(0.3, 0.1, 0.2)
def test_deposit_suffices_is_whole_cents_and_never_rises_with_headroom(
    level: float, headroom: float, more: float
) -> None:
    deposit, later = deposit_to_meet(
        np.array([level, level]), np.array([headroom, headroom + more])
    ).tolist()
    missing = max(0.0, level - headroom)
    assert missing <= deposit
    assert deposit == float(round(Decimal(repr(deposit)), 2))
    # A cent, and one more where float64 needs it to reach the level.
    assert deposit - missing < 0.0201
    assert later <= deposit
    after = deposit_to_meet(np.array([level]), np.array([headroom + deposit]))
    assert after.tolist() == [0.0]
