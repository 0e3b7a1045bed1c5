from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from market.errors import ModelError
from training.calibration import fit_platt, platt_probability, pooled_platt


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


def test_weights_equal_repeated_rows() -> None:
    rng = np.random.default_rng(6)
    raw = rng.normal(size=500)
    y = rng.random(500) < expit(raw)
    weight = rng.integers(0, 3, size=500)
    np.testing.assert_allclose(
        fit_platt(raw, y, weight),
        fit_platt(np.repeat(raw, weight), np.repeat(y, weight)),
        rtol=1e-9,
    )


def test_separable_scores_use_platts_targets() -> None:
    raw = np.array([-2.0, -1.0, 0.5, 1.0, 2.0])
    y = np.array([0, 0, 1, 1, 1])
    target = np.where(y == 1, 4.0 / 5.0, 1.0 / 4.0)

    def loss(line: np.ndarray) -> float:
        eta = line[0] * raw + line[1]
        return float(-(target * log_expit(eta) + (1.0 - target) * log_expit(-eta)).sum())

    oracle = minimize(loss, [1.0, 0.0], tol=1e-14).x
    np.testing.assert_allclose(fit_platt(raw, y), oracle, atol=1e-5)


def test_wrong_way_score_is_refused_not_flattened() -> None:
    rng = np.random.default_rng(7)
    raw = rng.normal(size=2000)
    y = rng.random(2000) < expit(-raw)
    with pytest.raises(ModelError, match="positive"):
        fit_platt(raw, y)
    with pytest.raises(ModelError, match="positive"):
        fit_platt(np.array([3.0, 2.0, 1.0, 0.0]), [0, 0, 1, 1])


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


def test_class_of_zero_weight_counts_as_absent() -> None:
    with pytest.raises(ModelError, match="needs both"):
        fit_platt([0.0, 1.0, 2.0], [0, 0, 1], [1.0, 1.0, 0.0])


Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample(seed: int, days: int, slope: float, intercept: float, shock: float = 0.0) -> Sample:
    """Scores, outcomes and days of a market whose level moves from day to day by `shock`."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), 300)
    raw = rng.normal(-1.0, 1.5, size=len(day))
    level = rng.normal(0.0, shock, size=days)[day]
    y = rng.random(len(day)) < expit(slope * raw + intercept + level)
    return raw, y.astype(np.float64), day


def test_two_samples_of_one_truth_pool_to_it() -> None:
    pooled = pooled_platt([sample(1, 120, 0.8, -0.3), sample(2, 60, 0.8, -0.3)])
    assert pooled == pytest.approx((0.8, -0.3), abs=0.03)


def test_one_sample_pools_to_its_own_line() -> None:
    raw, y, day = sample(3, 40, 1.1, 0.2)
    assert pooled_platt([(raw, y, day)]) == pytest.approx(fit_platt(raw, y), rel=1e-9)


def test_odd_month_of_few_days_moves_the_line_little() -> None:
    long, odd = sample(4, 300, 1.0, 0.0, shock=0.5), sample(5, 12, 1.0, 1.0, shock=0.5)
    own, outlier = fit_platt(*long[:2]), fit_platt(*odd[:2])
    pooled = pooled_platt([long, odd])
    assert abs(pooled[1] - own[1]) < 0.2 * abs(outlier[1] - own[1])


def test_days_weigh_not_rows() -> None:
    long, short = sample(6, 60, 1.0, 0.0, shock=0.3), sample(7, 20, 1.2, 0.4, shock=0.3)
    thrice: Sample = (np.repeat(short[0], 3), np.repeat(short[1], 3), np.repeat(short[2], 3))
    np.testing.assert_allclose(
        pooled_platt([long, thrice]), pooled_platt([long, short]), rtol=0.0, atol=1e-9
    )


def test_order_of_the_samples_does_not_matter() -> None:
    one, other = sample(8, 30, 1.0, 0.0), sample(9, 50, 0.9, 0.1)
    np.testing.assert_allclose(pooled_platt([one, other]), pooled_platt([other, one]), rtol=1e-12)


def test_sample_of_two_days_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 3"):
        pooled_platt([sample(10, 2, 1.0, 0.0)])
