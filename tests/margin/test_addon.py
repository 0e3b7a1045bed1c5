"""The add-on: the rules have the last word whatever the model returns, and say which word."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from margin.addon import (
    BINDINGS,
    AddOn,
    add_on_cap,
    bound_add_on,
    deposit_to_meet,
    in_stress,
    required_level,
)
from margin.ruleset import AddOnRules
from market.errors import ModelError

Floats = npt.NDArray[np.float64]

NAN, INF = math.nan, math.inf
HORIZONS = (1, 8, 24)
P_STAR = {1: 0.002, 8: 0.01, 24: 0.02}
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
    arrays = (np.array([x]) for x in (model, floor, cap, previous, hours, initial_margin))
    return bound_add_on(*arrays, stress, rules)


def outcome(*args: float, **kwargs: object) -> tuple[float, str]:
    add_on = bound(*args, **kwargs)  # type: ignore[arg-type]
    return float(add_on.level[0]), add_on.binding_names()[0]


# --- the bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "expected"),
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
def test_each_bound_by_hand(given_: dict[str, float], expected: tuple[float, str]) -> None:
    assert outcome(**given_) == expected


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
    level, binding = float(add_on.level[0]), add_on.binding_names()[0]
    highest = max(floor, cap) if math.isfinite(cap) else floor
    assert floor <= level <= highest
    truth = {
        "floor": level == floor,
        "cap": level == cap < max(model, previous),
        "model": level == max(model, 0.0),
        "dead_band": level == previous != model,
        "step": previous <= level < model,
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
    assert add_on.binding_names() == ["model", "fallback", "cap", "fallback"]
    assert set(add_on.binding_names()) <= set(BINDINGS)


def test_cap_is_a_multiple_of_initial_margin() -> None:
    assert add_on_cap(np.array([0.0, 50.0]), RULES).tolist() == [0.0, 150.0]


# --- the search ---------------------------------------------------------------------------------


def exponential(scale: Floats) -> object:
    """p_h(a) = 0.5 * exp(-a / scale) at 1 h; at 8 h and 24 h the scale is 2 and 3 times that."""

    def probability(level: Floats) -> Floats:
        return 0.5 * np.exp(-level[:, None] / (scale[:, None] * np.array([1.0, 2.0, 3.0])))

    return probability


def test_levels_of_a_known_curve() -> None:
    scale = np.array([1.0, 10.0, 0.001])
    got = required_level(exponential(scale), np.full(3, 100.0), P_STAR, HORIZONS)  # type: ignore[arg-type]
    exact = scale[:, None] * np.array([1.0, 2.0, 3.0]) * np.log(0.5 / np.array([0.002, 0.01, 0.02]))
    assert got.horizons == HORIZONS
    np.testing.assert_allclose(got.by_horizon, exact, atol=100 * 2.0**-31)
    np.testing.assert_array_equal(got.level, got.by_horizon.max(axis=1))


def test_returned_level_was_seen_to_suffice() -> None:
    scale = np.geomspace(0.01, 20, 50)
    probability = exponential(scale)
    got = required_level(probability, np.full(50, 1e3), P_STAR, HORIZONS, iterations=7)  # type: ignore[arg-type]
    answer = probability(got.level)  # type: ignore[operator]
    assert (answer <= np.array([0.002, 0.01, 0.02])).all()


def test_safe_account_needs_zero_and_hopeless_one_infinity() -> None:
    answers = np.array([[0.0, 0.0, 0.0], [0.002, 0.01, 0.02], [0.0, 0.0, 0.021]])
    got = required_level(lambda _: answers, np.full(3, 10.0), P_STAR, HORIZONS)
    assert got.level.tolist() == [0.0, 0.0, INF]
    assert got.by_horizon[2].tolist() == [0.0, 0.0, INF]


def test_nan_anywhere_on_the_path_gives_nan_for_that_account_only() -> None:
    def probability(level: Floats) -> Floats:
        p = 0.5 * np.exp(-level)[:, None] * np.ones(3)
        p[0][(level[0] > 4.0) & (level[0] < 6.0)] = NAN
        return p

    upper = np.array([10.0, 10.0])
    got = required_level(probability, upper, P_STAR, HORIZONS)
    assert np.isnan(got.level[0])
    assert got.level[1] == pytest.approx(math.log(0.5 / 0.002), abs=1e-6)
    unusable = np.array([NAN, -1.0])
    assert np.isnan(required_level(probability, unusable, P_STAR, HORIZONS).level).all()


def test_batch_changes_no_bit_of_an_account() -> None:
    scale = np.geomspace(1e-4, 30, 23)
    upper = np.linspace(0, 200, 23)
    whole = required_level(exponential(scale), upper, P_STAR, HORIZONS)  # type: ignore[arg-type]
    for i in range(23):
        one = slice(i, i + 1)
        alone = required_level(exponential(scale[one]), upper[one], P_STAR, HORIZONS)  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone.by_horizon[0], whole.by_horizon[i])


def test_only_targeted_horizons_count_and_missing_ones_are_refused() -> None:
    answers = np.array([[0.9, 0.9, 0.01]])
    got = required_level(lambda _: answers, np.array([1.0]), {24: 0.02}, HORIZONS)
    assert got.horizons == (24,)
    assert got.level.tolist() == [0.0]
    with pytest.raises(ModelError, match=r"\[8\]"):
        required_level(lambda _: answers, np.array([1.0]), {8: 0.01}, (1, 24))
    with pytest.raises(ModelError, match="shape"):
        required_level(lambda _: answers, np.ones(2), {24: 0.02}, HORIZONS)


def test_search_stops_early() -> None:
    calls = 0

    def probability(level: Floats) -> Floats:
        nonlocal calls
        calls += 1
        return 0.5 * np.exp(-level)[:, None] * np.ones(3)

    required_level(probability, np.array([10.0]), {1: 0.002}, HORIZONS, iterations=1_000)
    assert calls <= 2 + 32
    calls = 0
    required_level(probability, np.array([1.0]), P_STAR, HORIZONS)
    assert calls == 2


@given(tolerance=st.floats(1e-6, 0.4), looser=st.floats(1, 3))
def test_tolerating_more_never_asks_for_more(tolerance: float, looser: float) -> None:
    probability = exponential(np.array([3.0]))
    levels = [
        required_level(probability, np.array([500.0]), {8: p}, HORIZONS).level[0]  # type: ignore[arg-type]
        for p in (tolerance, tolerance * looser)
    ]
    assert levels[1] <= levels[0]


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
def test_cents_by_hand(level: float, headroom: float, expected: float) -> None:
    assert deposit_to_meet(np.array([level]), np.array([headroom])).tolist() == [expected]


def test_deposit_of_an_unknown_level_is_unknown() -> None:
    got = deposit_to_meet(np.array([NAN, 1.0, INF]), np.array([1.0, NAN, INF]))
    assert np.isnan(got).all()


@given(cents=st.integers(0, 10**13))
def test_exact_cents_are_not_raised(cents: int) -> None:
    exact = float(Decimal(cents) / 100)
    assert deposit_to_meet(np.array([exact]), np.zeros(1))[0] == exact


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
