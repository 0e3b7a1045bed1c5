"""Trees on top of a structural prior, on small made-up markets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from market.core.clock import DAY, HOUR
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from training.fitting.fit import Ensemble, RoundSearch, fit_trees

Floats = npt.NDArray[np.float64]

SCHEMA = ModelSchema(
    features=("prior_logit_8h", "distance_fast", "distance_slow", "net_share"),
    monotone=(1, -1, -1, 0),
    horizons=(8,),
    prior=("prior_logit_8h",),
    features_sha256="a" * 64,
)
PER_HOUR, HOURS = 12, 60 * 24


def rows(skill: float, seed: int = 0) -> tuple[Floats, npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Account-times whose outcome the prior explains, and distances too where there is skill."""
    rng = np.random.default_rng(seed)
    n = PER_HOUR * HOURS
    prior = rng.normal(-1.5, 1.0, n)
    distance = rng.exponential(2.0, (n, 2))
    share = rng.uniform(-1.0, 1.0, n)
    effect = skill * (np.exp(-distance[:, 0]) - 0.33 + 0.3 * share)
    labels = (rng.random(n) < expit(prior + effect)).astype(np.int8)
    time = np.repeat(20_000 * DAY + np.arange(HOURS, dtype=np.int64) * HOUR, PER_HOUR)
    return np.column_stack([prior, distance, share]), labels, time


def fitted(skill: float, *, seed: int = 1, num_threads: int = 1, max_rounds: int = 60) -> Ensemble:
    search = RoundSearch(seed, num_threads, max_rounds)
    return fit_trees(*rows(skill), SCHEMA, 8, search)


@pytest.fixture(scope="module")
def skilled() -> Ensemble:
    return fitted(4.0)


def test_skill_is_found(skilled: Ensemble) -> None:
    assert skilled.booster is not None
    assert 0 < skilled.rounds == skilled.booster.num_trees()
    assert skilled.tree_loss < skilled.prior_loss


def test_same_rows_and_seed_give_the_same_trees(skilled: Ensemble) -> None:
    again, other = fitted(4.0), fitted(4.0, seed=2)
    assert skilled.booster is not None
    assert again.booster is not None
    assert other.booster is not None
    assert again.booster.model_to_string() == skilled.booster.model_to_string()
    assert other.booster.model_to_string() != skilled.booster.model_to_string()


def test_more_threads_give_the_same_trees() -> None:
    one, two = (fitted(4.0, num_threads=threads, max_rounds=8).booster for threads in (1, 2))
    assert one is not None
    assert two is not None
    X = rows(4.0)[0]
    np.testing.assert_array_equal(one.predict(X, raw_score=True), two.predict(X, raw_score=True))


def test_features_without_skill_give_no_trees() -> None:
    ensemble = fitted(0.0)
    assert ensemble.booster is None
    assert ensemble.rounds == 0


def test_deposit_never_raises_the_score_in_the_fitted_trees(skilled: Ensemble) -> None:
    """Sweeping any constrained column over its range moves the score one way only."""
    assert skilled.booster is not None
    base = rows(4.0)[0][::211]
    for column, sign in enumerate(SCHEMA.monotone):
        sweep = np.linspace(base[:, column].min() - 1.0, base[:, column].max() + 1.0, 120)
        X = np.repeat(base, len(sweep), axis=0)
        X[:, column] = np.tile(sweep, len(base))
        score = np.asarray(skilled.booster.predict(X, raw_score=True)).reshape(len(base), -1)
        if sign:
            assert (sign * np.diff(score, axis=1) >= 0.0).all(), SCHEMA.features[column]
    distance = SCHEMA.features.index("distance_fast")
    assert skilled.booster.feature_importance()[distance] > 0


def test_block_without_a_breach_is_refused() -> None:
    X, labels, time = rows(0.0)
    with pytest.raises(ModelError, match="0 breaches"):
        fit_trees(X, np.zeros_like(labels), time, SCHEMA, 8, RoundSearch(1, 1))
