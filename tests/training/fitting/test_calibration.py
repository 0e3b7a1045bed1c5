from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from market.core.errors import ModelError
from training.fitting.calibration import fit_line, fit_platt, platt_probability


def test_known_line_is_recovered() -> None:
    rng = np.random.default_rng(3)
    raw = rng.normal(-3.0, 2.0, size=200_000)
    y = rng.random(len(raw)) < expit(0.7 * raw - 0.4)
    slope, intercept = fit_platt(raw, y)
    assert slope == pytest.approx(0.7, abs=0.02)
    assert intercept == pytest.approx(-0.4, abs=0.04)


def test_far_off_scores_do_not_hurt_the_solver() -> None:
    rng = np.random.default_rng(4)
    raw = rng.normal(size=5000)
    y = rng.random(len(raw)) < expit(raw)
    slope, intercept = fit_platt(raw, y)
    shifted = fit_platt(1e6 + 1e-3 * raw, y)
    assert shifted[0] == pytest.approx(1e3 * slope, rel=1e-5)
    np.testing.assert_allclose(
        platt_probability(1e6 + 1e-3 * raw, *shifted),
        platt_probability(raw, slope, intercept),
        atol=1e-5,
    )


def test_mean_probability_equals_the_base_rate() -> None:
    rng = np.random.default_rng(5)
    raw = rng.normal(-4.0, 3.0, size=20_000)
    y = rng.random(len(raw)) < expit(1.4 * raw + 1.0)
    p = platt_probability(raw, *fit_platt(raw, y))
    assert p.mean() == pytest.approx(y.mean(), rel=1e-10)


def test_separable_scores_use_platts_targets() -> None:
    raw = np.array([-2.0, -1.0, 0.5, 1.0, 2.0])
    y = np.array([0, 0, 1, 1, 1])
    target = np.where(y == 1, 4.0 / 5.0, 1.0 / 4.0)

    def loss(line: npt.NDArray[np.float64]) -> float:
        eta = line[0] * raw + line[1]
        return float(-(target * log_expit(eta) + (1.0 - target) * log_expit(-eta)).sum())

    oracle = minimize(loss, [1.0, 0.0], tol=1e-14).x
    np.testing.assert_allclose(fit_platt(raw, y), oracle, atol=1e-5)


def test_score_with_a_negative_slope_is_refused() -> None:
    rng = np.random.default_rng(7)
    raw = rng.normal(size=2000)
    y = rng.random(2000) < expit(-raw)
    with pytest.raises(ModelError, match="positive"):
        fit_platt(raw, y)
    with pytest.raises(ModelError, match="positive"):
        fit_platt(np.array([3.0, 2.0, 1.0, 0.0]), [0, 0, 1, 1])


def test_line_may_have_a_negative_slope() -> None:
    rng = np.random.default_rng(8)
    raw = rng.normal(size=20_000)
    y = rng.random(len(raw)) < expit(-0.5 * raw)
    assert fit_line(raw, y) == pytest.approx((-0.5, 0.0), abs=0.05)


@pytest.mark.parametrize(
    ("raw", "y", "message"),
    [
        ([0.0, 1.0], [0, 0], "needs both"),
        ([1.0, 1.0, 1.0], [0, 1, 0], "constant"),
        ([0.0, np.nan], [0, 1], "finite"),
        ([0.0, 1.0], [0, 2], "0 or 1"),
        ([0.0, 1.0, 2.0], [0, 1], "one shape"),
    ],
)
def test_undefined_calibrations_are_refused(raw: list[float], y: list[int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fit_platt(raw, y)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_weight_counts_as_so_many_equal_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=400)
    y = rng.random(400) < expit(0.7 * raw - 0.5)
    count = rng.integers(1, 5, 400)
    weighted = fit_line(raw, y, count)
    assert weighted == pytest.approx(fit_line(raw.repeat(count), y.repeat(count)), rel=1e-6)


def test_separable_scores_count_their_weight_too() -> None:
    raw, y, count = np.array([-2.0, -1.0, 0.5, 1.0]), np.array([0, 0, 1, 1]), np.array([3, 1, 2, 4])
    repeated = fit_platt(raw.repeat(count), y.repeat(count))
    assert fit_platt(raw, y, count) == pytest.approx(repeated, rel=1e-6)


def test_row_without_weight_is_refused() -> None:
    with pytest.raises(ModelError, match="above 0"):
        fit_platt([0.0, 1.0, 2.0], [0, 1, 1], [1.0, 0.0, 1.0])
