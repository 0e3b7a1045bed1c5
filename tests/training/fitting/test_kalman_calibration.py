"""The calibration line follows a market that drifts and stays calm in one that does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal

from market.core.errors import ModelError
from training.fitting.calibration import fit_platt
from training.fitting.kalman_calibration import QUARTER_DAYS, fit_kalman_line, local_level

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def sample(
    seed: int, intercepts: list[float], *, slope: float = 1.0, shock: float = 0.0, rows: int = 100
) -> Sample:
    """Scores, outcomes and days; one intercept a quarter, moved from day to day by `shock`."""
    rng = np.random.default_rng(seed)
    days = QUARTER_DAYS * len(intercepts)
    day = np.repeat(np.arange(days), rows)
    raw = rng.normal(-1.0, 1.5, size=len(day))
    level = np.repeat(intercepts, QUARTER_DAYS) + rng.normal(0.0, shock, size=days)
    y = rng.random(len(day)) < expit(slope * raw + level[day])
    return raw, y.astype(np.float64), day


def test_last_filtered_mean_is_the_conditional_mean_of_a_random_walk() -> None:
    """Oracle: condition the joint normal of all lines, with no filter in it."""
    rng = np.random.default_rng(1)
    K = 6
    roots = rng.normal(size=(K, 2, 2))
    noise = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(2)
    observed, drift = rng.normal(size=(K, 2)), 0.7
    step = drift * noise.mean(axis=0)
    # Given the first observation, level k is it plus the first noise plus k steps.
    walk = np.kron(np.minimum.outer(np.arange(K), np.arange(K)), step) + np.kron(
        np.ones((K, K)), noise[0]
    )
    total = walk.copy()
    for k in range(1, K):
        total[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += noise[k]
    later, last = slice(2, None), slice(2 * K - 2, None)
    surprise = (observed[1:] - observed[0]).ravel()
    expected = observed[0] + walk[last, later] @ np.linalg.solve(total[later, later], surprise)
    mean, likelihood = local_level(observed, noise, drift)
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    exact = multivariate_normal(cov=total[later, later]).logpdf(surprise)
    assert likelihood - (K - 1) * np.log(2.0 * np.pi) == pytest.approx(exact, rel=1e-9)


def test_without_drift_it_is_the_precision_weighted_mean() -> None:
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(4, 2, 2))
    noise = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(2)
    observed = rng.normal(size=(4, 2))
    precision = np.linalg.inv(noise)
    expected = np.linalg.solve(precision.sum(axis=0), (precision @ observed[:, :, None]).sum(0))
    np.testing.assert_allclose(local_level(observed, noise, 0.0)[0], expected[:, 0], rtol=1e-9)


def test_market_without_drift_gives_the_line_of_all_rows() -> None:
    raw, y, day = sample(3, [-0.3] * 6, slope=0.8, shock=0.4)
    line = fit_kalman_line(raw, y, day)
    assert line.quarters == 6
    assert (line.slope, line.intercept) == pytest.approx(fit_platt(raw, y), abs=0.03)


def test_drifting_market_is_followed_to_its_end() -> None:
    raw, y, day = sample(4, [-1.0, -0.7, -0.4, 0.0, 0.4, 0.8], shock=0.2)
    line = fit_kalman_line(raw, y, day)
    assert line.drift > 0.1
    assert line.intercept == pytest.approx(0.8, abs=0.15)
    assert abs(fit_platt(raw, y)[1]) < 0.3  # the mean of all quarters says something else


def test_stretch_of_few_breaches_changes_the_line_little() -> None:
    """A few days after a calm history are no quarter of their own."""
    raw, y, day = sample(5, [0.0] * 4, shock=0.5)
    odd = np.random.default_rng(6).normal(-1.0, 1.5, size=500)
    late = 4 * QUARTER_DAYS + np.arange(500) // 100
    after = fit_kalman_line(
        np.concatenate((raw, odd)),
        np.concatenate((y, np.ones(500))),
        np.concatenate((day, late)),
    )
    before = fit_kalman_line(raw, y, day)
    # All 500 rows are positive: alone they would push the intercept beyond every bound.
    assert abs(after.intercept - before.intercept) < 0.3


def test_days_and_not_rows_carry_weight() -> None:
    raw, y, day = sample(7, [0.0, 0.2, 0.4], shock=0.3)
    thrice = np.where(day >= 2 * QUARTER_DAYS, 3, 1)
    again = fit_kalman_line(np.repeat(raw, thrice), np.repeat(y, thrice), np.repeat(day, thrice))
    once = fit_kalman_line(raw, y, day)
    assert (again.slope, again.intercept, again.drift) == pytest.approx(
        (once.slope, once.intercept, once.drift), rel=1e-7
    )


def test_order_of_the_rows_does_not_matter() -> None:
    raw, y, day = sample(8, [0.0, 0.5, 0.2])
    mixed = np.random.default_rng(9).permutation(len(raw))
    one, other = fit_kalman_line(raw, y, day), fit_kalman_line(raw[mixed], y[mixed], day[mixed])
    assert (one.slope, one.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-9)


def test_short_sample_is_one_platt_line() -> None:
    raw, y, day = sample(10, [0.1], rows=20)
    few = day < 5
    line = fit_kalman_line(raw[few], y[few], day[few])
    assert (line.slope, line.intercept) == fit_platt(raw[few], y[few])
    assert (line.drift, line.quarters) == (0.0, 1)


@pytest.mark.parametrize(
    ("raw", "y", "day", "message"),
    [
        ([0.0, 1.0], [0, 1], [0], "one shape"),
        ([0.0, 1.0], [0, 0], [0, 1], "needs both"),
        ([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1], [0, 1, 2, 3], "wrong way"),
    ],
)
def test_undefined_calibrations_are_refused(
    raw: list[float], y: list[int], day: list[int], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        fit_kalman_line(raw, y, day)
