"""The search for the level: whatever is guessed, what is returned was seen on the model."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy.optimize import brentq

from margin.add_on.bounds import ModelLevel
from margin.add_on.solver import RELATIVE_PRECISION, required_level
from market.core.arrays import Floats, Ints
from market.core.errors import ModelError

Model = Callable[[Floats, Ints], Floats]

NAN, INF = math.nan, math.inf
HORIZONS = (1, 8, 24)
P_STAR = {1: 0.002, 8: 0.01, 24: 0.02}
LIMITS = np.array([0.002, 0.01, 0.02])


def exponential(scale: Floats) -> Model:
    """p_h(a) = 0.5 * exp(-a / scale) at 1 h; at 8 h and 24 h the scale is 2 and 3 times that."""

    def probability(level: Floats, rows: Ints) -> Floats:
        decay = level[:, None] / (scale[rows, None] * np.array([1.0, 2.0, 3.0]))
        return np.asarray(0.5 * np.exp(-decay))

    return probability


def test_levels_of_a_known_curve() -> None:
    scale = np.array([1.0, 10.0, 0.001])
    got = required_level(exponential(scale), np.full(3, 100.0), P_STAR, HORIZONS)
    exact = scale[:, None] * np.array([1.0, 2.0, 3.0]) * np.log(0.5 / np.array([0.002, 0.01, 0.02]))
    assert got.horizons == HORIZONS
    np.testing.assert_allclose(got.by_horizon, exact, atol=100 * 2.0**-31)
    np.testing.assert_array_equal(got.level, got.by_horizon.max(axis=1))


def test_returned_level_was_seen_to_suffice() -> None:
    scale = np.geomspace(0.01, 20, 50)
    probability = exponential(scale)
    got = required_level(probability, np.full(50, 1e3), P_STAR, HORIZONS, iterations=7)
    answer = probability(got.level, np.arange(50))
    assert (answer <= LIMITS).all()


def test_safe_account_needs_zero_and_hopeless_one_infinity() -> None:
    answers = np.array([[0.0, 0.0, 0.0], [0.002, 0.01, 0.02], [0.0, 0.0, 0.021]])
    got = required_level(lambda _, rows: answers[rows], np.full(3, 10.0), P_STAR, HORIZONS)
    assert got.level.tolist() == [0.0, 0.0, INF]
    assert got.by_horizon[2].tolist() == [0.0, 0.0, INF]


def test_nan_anywhere_on_the_path_gives_nan_for_that_account_only() -> None:
    def probability(level: Floats, rows: Ints) -> Floats:
        p = 0.5 * np.exp(-level)[:, None] * np.ones(3)
        p[(rows == 0) & (level > 4.0) & (level < 6.0)] = NAN
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
    whole = required_level(exponential(scale), upper, P_STAR, HORIZONS)
    for i in range(23):
        one = slice(i, i + 1)
        alone = required_level(exponential(scale[one]), upper[one], P_STAR, HORIZONS)
        np.testing.assert_array_equal(alone.by_horizon[0], whole.by_horizon[i])


def test_only_targeted_horizons_count_and_missing_ones_are_refused() -> None:
    answers = np.array([[0.9, 0.9, 0.01]])
    got = required_level(lambda _, rows: answers[rows], np.array([1.0]), {24: 0.02}, HORIZONS)
    assert got.horizons == (24,)
    assert got.level.tolist() == [0.0]
    with pytest.raises(ModelError, match=r"\[8\]"):
        required_level(lambda _, rows: answers[rows], np.array([1.0]), {8: 0.01}, (1, 24))
    with pytest.raises(ModelError, match="shape"):
        required_level(lambda _, rows: answers, np.ones(2), {24: 0.02}, HORIZONS)
    with pytest.raises(ModelError, match="guess has shape"):
        required_level(lambda _, rows: answers, np.ones(1), {24: 0.02}, HORIZONS, np.ones((1, 3)))


def test_search_stops_early() -> None:
    calls = 0

    def probability(level: Floats, rows: Ints) -> Floats:
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
        required_level(probability, np.array([500.0]), {8: p}, HORIZONS).level[0]
        for p in (tolerance, tolerance * looser)
    ]
    assert levels[1] <= levels[0]


# --- any falling curve, any guess -----------------------------------------------------------------


@st.composite
def staircases(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Where a falling step function steps, and its values: flats, cliffs, ties and limits."""
    n = draw(st.integers(0, 6))
    levels = st.one_of(st.floats(0.0, 10.0), st.sampled_from([0.0, 5e-324, 1e-12, 5.0, 10.0]))
    values = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.002, 0.01, 0.02, 1.0]))
    at = np.sort(draw(st.lists(levels, min_size=n, max_size=n)))
    p = np.sort(draw(st.lists(values, min_size=n + 1, max_size=n + 1)))[::-1]
    return at, np.array(p)


guesses = st.one_of(
    st.just(NAN),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0.0, 10.0),
    st.sampled_from([0.0, 10.0, 5e-324]),
)


def staircase(steps: tuple[Floats, Floats], seen: list[tuple[float, float]]) -> Model:
    at, p = steps

    def probability(level: Floats, rows: Ints) -> Floats:
        answer = p[np.searchsorted(at, level, side="left")]
        seen.extend(zip(level.tolist(), answer.tolist(), strict=True))
        return np.repeat(answer[:, None], 3, axis=1)

    return probability


@given(staircases(), guesses, st.floats(0.0, 10.0), st.sampled_from([1, 8, 24]))
@example((np.array([5.0]), np.array([1.0, 0.0])), 5.0, 10.0, 1)
@example((np.array([5.0]), np.array([1.0, 0.0])), np.nextafter(5.0, 6.0), 10.0, 1)
@example((np.array([5e-324]), np.array([1.0, 0.0])), 0.0, 1e-320, 1)
@example((np.array([10.0]), np.array([1.0, 0.0])), 0.0, 10.0, 24)
def test_level_on_a_staircase_was_seen_and_is_the_least_whatever_was_guessed(
    steps: tuple[Floats, Floats], guess: float, upper: float, hours: int
) -> None:
    seen: list[tuple[float, float]] = []
    limit = P_STAR[hours]
    model = staircase(steps, seen)
    found = required_level(
        model, np.array([upper]), {hours: limit}, HORIZONS, np.array([[guess]])
    ).level[0]
    p = dict(seen)
    assert len(seen) <= 64
    if math.isinf(found):
        assert p[upper] > limit
        return
    assert p[found] <= limit
    at, values = steps
    least = 0.0 if values[0] <= limit else at[np.argmax(values <= limit) - 1]
    assert least <= found
    # Within the promised precision, or the next float where that is coarser.
    assert found - least <= RELATIVE_PRECISION * upper or found == np.nextafter(least, INF)


@given(
    st.lists(st.tuples(st.floats(0.2, 300.0), guesses, guesses, guesses), min_size=1, max_size=6),
    st.floats(1.0, 1e9),
)
def test_level_of_a_smooth_curve_is_that_of_a_root_finder_for_every_guess(
    accounts: list[tuple[float, float, float, float]], unit: float
) -> None:
    scale = unit * np.array([account[0] for account in accounts])
    with np.errstate(over="ignore"):  # a guess may be as wild as floats are
        guess = unit * np.array([account[1:] for account in accounts])
    upper = np.full(len(scale), 100.0 * unit)
    model = exponential(scale)
    found = required_level(model, upper, P_STAR, HORIZONS, guess)
    for i, k in np.ndindex(found.by_horizon.shape):
        row = np.array([i])

        def excess(level: float, row: Ints = row, k: int = k) -> float:
            return float(np.log(model(np.array([level]), row)[0, k] / LIMITS[k]))

        highest = float(upper[i])
        if excess(highest) > 0.0:
            assert found.by_horizon[i, k] == INF
            continue
        root = brentq(lambda level: excess(level), 0.0, highest, xtol=1e-12 * unit)
        assert abs(found.by_horizon[i, k] - root) <= 1.001 * RELATIVE_PRECISION * highest


@given(st.integers(0, 2**32 - 1))
def test_account_alone_equals_itself_in_a_book_for_every_guess(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 7
    scale, upper = rng.lognormal(0.0, 3.0, n), rng.lognormal(3.0, 2.0, n)
    guess = scale[:, None] * np.array([5.5, 7.8, 9.7]) * rng.choice([0.5, 1.0, 2.0, NAN], (n, 3))
    whole = required_level(exponential(scale), upper, P_STAR, HORIZONS, guess)
    for i in range(n):
        one = slice(i, i + 1)
        alone = required_level(exponential(scale[one]), upper[one], P_STAR, HORIZONS, guess[one])
        np.testing.assert_array_equal(alone.by_horizon[0], whole.by_horizon[i])


def asked(guess: Floats | None) -> tuple[ModelLevel, int]:
    """Levels of the accounts of `SCALE` and how many questions each of them cost."""
    count = 0

    def probability(level: Floats, rows: Ints) -> Floats:
        nonlocal count
        count += len(rows)
        return exponential(SCALE)(level, rows)

    found = required_level(probability, np.full(len(SCALE), 100.0), P_STAR, HORIZONS, guess)
    return found, count // len(SCALE)


SCALE = np.geomspace(0.1, 3.0, 10)


def test_good_guess_costs_two_questions_a_horizon_and_a_bad_one_changes_no_promise() -> None:
    exact = SCALE[:, None] * np.array([1.0, 2.0, 3.0]) * np.log(0.5 / LIMITS)
    plain, many = asked(None)
    right, few = asked(exact + 1e-12)
    wrong, more = asked(exact[::-1] + 1e-12)
    assert few == 6
    assert 6 < many < more < 3 * 64
    for found in (plain, right, wrong):
        assert (found.by_horizon >= exact).all()
        np.testing.assert_allclose(found.by_horizon, exact, rtol=0.0, atol=100 * 2.0**-32)


def test_finished_accounts_are_not_asked_again() -> None:
    answers: list[Ints] = []

    def probability(level: Floats, rows: Ints) -> Floats:
        answers.append(rows)
        p = 0.5 * np.exp(-level)[:, None] * np.ones(3)
        p[rows == 1] = 0.0
        return p

    required_level(probability, np.array([100.0, 100.0]), P_STAR, HORIZONS)
    assert answers[0].tolist() == [0, 1]
    assert all(rows.tolist() == [0] for rows in answers[1:])


def test_model_that_rises_with_the_level_is_still_seen_to_suffice_where_it_says_so() -> None:
    def probability(level: Floats, rows: Ints) -> Floats:
        return np.repeat(0.5 + 0.5 * np.sin(level)[:, None], 3, axis=1)

    for guess in (None, np.full((1, 1), 4.712), np.full((1, 1), 20.0)):
        found = required_level(probability, np.array([30.0]), {1: 0.002}, HORIZONS, guess).level
        assert np.isinf(found[0]) or probability(found, np.zeros(1, np.int64))[0, 0] <= 0.002


# --- one level after the other --------------------------------------------------------------------


def one_at_a_time(
    probability: Model, account: int, upper: float, guess: list[float], iterations: int
) -> list[float]:
    """The levels of one account where every level is asked on its own, in the documented order."""
    low, high = [-INF] * 3, [INF] * 3
    tolerance, broken = RELATIVE_PRECISION * upper, not 0.0 <= upper < INF
    for k in range(3):
        wanted, steps = min(max(guess[k], 0.0), upper), 0
        for _ in range(iterations):
            bottom, top = low[k], high[k]
            if broken or bottom >= upper or top <= 0.0 or top - bottom <= tolerance:
                break
            level = 0.0 if bottom < 0.0 else upper if top == INF else bottom + 0.5 * (top - bottom)
            if bottom < wanted < top:
                level = wanted
            elif not math.isnan(guess[k]):
                step = 0.5 * tolerance * 16.0**steps
                near = top - step if wanted >= top else bottom + step
                if max(bottom, 0.0) < near < min(top, upper) and step < 0.5 * (top - bottom):
                    level, steps = near, steps + 1
            if not bottom < level < top:
                break
            answer = probability(np.array([level]), np.array([account]))[0]
            broken = broken or bool(np.isnan(answer).any())
            for h in range(3):
                if low[h] < level < high[h] and answer[h] <= LIMITS[h]:
                    high[h] = level
                elif low[h] < level < high[h]:
                    low[h] = level
    return [NAN] * 3 if broken else high


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 64]))
def test_levels_do_not_depend_on_what_is_asked_together(seed: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    n = 9
    scale, upper = rng.lognormal(0.0, 3.0, n), rng.lognormal(2.0, 2.0, n)
    upper[rng.random(n) < 0.1] = rng.choice([0.0, NAN, INF, -1.0, 1e-310])
    exact = scale[:, None] * np.array([1.0, 2.0, 3.0]) * np.log(0.5 / LIMITS)
    guess = exact * rng.choice([1.0, 1.0 + 1e-12, 0.999, 0.0, 3.0, INF, NAN], (n, 3))
    stairs = rng.choice([0.0, 1e-3, 0.3])
    hole = rng.choice([INF, 1.0, 20.0])

    def probability(level: Floats, rows: Ints) -> Floats:
        if stairs:
            level = np.floor(level / stairs) * stairs
        p = exponential(scale)(level, rows)
        p[level > hole * scale[rows]] = NAN
        return p

    with np.errstate(invalid="ignore"):
        found = required_level(probability, upper, P_STAR, HORIZONS, guess, iterations)
        for i in range(n):
            levels = one_at_a_time(probability, i, float(upper[i]), guess[i].tolist(), iterations)
            np.testing.assert_array_equal(found.by_horizon[i], levels)
