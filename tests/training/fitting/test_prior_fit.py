"""The fitted prior: it recovers what made the data, and never rises with a distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit, logit

from market.core.errors import ModelError
from models.prior.spline_prior import DEFAULT_KNOTS, SplinePrior
from training.fitting.prior_fit import RIDGE, fit_prior

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


def truth(distances: Floats) -> Floats:
    """Log odds that fall in both log distances, at different speeds."""
    return 0.5 - 1.6 * distances[:, 0] - 0.4 * np.logaddexp(0.0, distances[:, 1] - 2.0)


def sample(rows: int, seed: int) -> tuple[Floats, Labels]:
    rng = np.random.default_rng(seed)
    near = rng.normal(0.8, 0.8, rows)
    distances = np.column_stack([near, near + rng.normal(1.4, 0.5, rows)])
    return distances, (rng.random(rows) < expit(truth(distances))).astype(np.int8)


@pytest.fixture(scope="module")
def fitted() -> SplinePrior:
    distances, labels = sample(60_000, 1)
    return fit_prior(distances, labels, np.ones(len(labels)))


def test_known_log_odds_are_recovered(fitted: SplinePrior) -> None:
    distances, _ = sample(4_000, 2)
    inner = (distances > np.quantile(distances, 0.02, axis=0)).all(axis=1) & (
        distances < np.quantile(distances, 0.98, axis=0)
    ).all(axis=1)
    off = fitted.score(distances[inner]) - truth(distances[inner])
    assert np.sqrt((off**2).mean()) < 0.12
    assert abs(off.mean()) < 0.03


@given(near=st.floats(-20.0, 20.0), far=st.floats(-20.0, 20.0), more=st.floats(0.0, 10.0))
def test_more_distance_never_raises_the_score(
    fitted: SplinePrior, near: float, far: float, more: float
) -> None:
    scores = fitted.score(np.array([[near, far], [near + more, far], [near, far + more]]))
    assert (scores[1:] <= scores[0]).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_weight_counts_as_so_many_equal_rows(seed: int) -> None:
    distances, labels = sample(800, seed)
    count = np.random.default_rng(seed).integers(1, 4, len(labels))
    weighted = fit_prior(distances, labels, count.astype(np.float64))
    repeated = fit_prior(
        distances.repeat(count, axis=0), labels.repeat(count), np.ones(int(count.sum()))
    )
    np.testing.assert_allclose(
        weighted.score(distances), repeated.score(distances), rtol=0.0, atol=1e-3
    )


def test_same_rows_give_the_same_bits() -> None:
    distances, labels = sample(3_000, 3)
    one, two = (fit_prior(distances, labels, np.ones(len(labels))) for _ in range(2))
    assert one == two


def test_few_rows_give_a_flat_but_finite_prior() -> None:
    distances, labels = sample(12, 4)
    labels[:] = 0
    labels[3] = 1
    prior = fit_prior(distances, labels, np.ones(12))
    assert np.isfinite(prior.score(distances)).all()


def test_cells_lose_nothing_that_matters() -> None:
    """Against the gradient on every single row: at the minimum it vanishes where free."""
    from models.prior.spline_basis import ramps

    distances, labels = sample(20_000, 5)
    prior = fit_prior(distances, labels, np.ones(len(labels)))
    design = np.column_stack(
        [ramps(x, knots) for x, knots in zip(distances.T, DEFAULT_KNOTS, strict=True)]
    )
    weights = np.concatenate([np.array(one) for one in prior.weights])
    gradient = design.T @ (expit(prior.score(distances)) - labels) + RIDGE * weights
    free = weights < 0.0
    assert np.abs(gradient[free]).max() < 2e-3 * labels.sum()
    assert gradient[~free].max(initial=0.0) < 2e-3 * labels.sum()


def test_direction_that_the_data_deny_gets_no_weight() -> None:
    rng = np.random.default_rng(6)
    distances = rng.normal(1.0, 1.0, (20_000, 2))
    p = expit(-1.0 - distances[:, 0] + 0.8 * distances[:, 1])
    labels = (rng.random(len(p)) < p).astype(np.int8)
    prior = fit_prior(distances, labels, np.ones(len(p)))
    assert min(prior.weights[1]) > -0.05
    assert prior.intercept < logit(0.9)


def test_rows_that_cannot_be_fitted_are_refused() -> None:
    distances, labels = sample(50, 7)
    ones = np.ones(50)
    with pytest.raises(ModelError, match="expected \\(N, 2\\)"):
        fit_prior(distances[:, :1], labels, ones)
    with pytest.raises(ModelError, match="both classes"):
        fit_prior(distances, np.zeros(50, np.int8), ones)
    with pytest.raises(ModelError, match="above 0"):
        fit_prior(distances, labels, 0.0 * ones)
    distances[0, 0] = np.nan
    with pytest.raises(ModelError, match="finite distances"):
        fit_prior(distances, labels, ones)
