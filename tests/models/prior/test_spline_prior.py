"""The prior: its sum, its monotonicity, its JSON form and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from market.core.errors import ModelError
from models.prior import DEFAULT_KNOTS, SplinePrior, ramps

PARAMETERS = np.concatenate([[1.5], -np.random.default_rng(3).exponential(0.4, 27)])
PRIOR = SplinePrior.of_parameters(PARAMETERS)
DICT: dict[str, Any] = json.loads(json.dumps(PRIOR.to_dict()))

log_distances = st.one_of(
    st.floats(-15.0, 15.0), st.sampled_from([k for d in DEFAULT_KNOTS for k in d])
)


def test_the_score_is_the_design_matrix_times_the_parameters() -> None:
    x = np.random.default_rng(1).normal(1.0, 3.0, (500, 2))
    design = np.column_stack(
        [np.ones(500), ramps(x[:, 0], DEFAULT_KNOTS[0]), ramps(x[:, 1], DEFAULT_KNOTS[1])]
    )
    np.testing.assert_allclose(PRIOR.score(x), design @ PARAMETERS, rtol=0, atol=1e-12)
    shares = PRIOR.shares(x)
    np.testing.assert_allclose(shares.sum(axis=1) + 1.5, PRIOR.score(x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(shares[:, 1], design[:, 16:] @ PARAMETERS[16:], atol=1e-12)


@given(log_distances, log_distances, st.integers(0, 1))
def test_the_score_never_rises_with_a_distance(x: float, y: float, moved: int) -> None:
    rows = np.array([[x, y]] * 3)
    rows[1, moved] = np.nextafter(rows[0, moved], np.inf)
    rows[2, moved] += 1e-9
    assert (np.diff(PRIOR.score(rows)) <= 0.0).all()


def test_weights_of_zero_make_flats_and_a_missing_distance_no_score() -> None:
    flat = SplinePrior(0.5, PRIOR.knots, ((0.0,) * 15, (0.0,) * 12))
    x = np.array([[-20.0, 3.0], [1.0, 1.0], [np.nan, 1.0], [1.0, np.nan]])
    np.testing.assert_array_equal(flat.score(x), [0.5, 0.5, np.nan, np.nan])


def test_json_gives_the_same_prior() -> None:
    assert SplinePrior.from_dict(DICT) == PRIOR


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [[-1.0] * 15]}, "knots of 2 and weights of 1"),
        ({"weights": [[-1.0] * 15, [-1.0] * 11]}, "11 weights for 12 knots"),
        ({"weights": [[-1.0] * 15, [0.1, *[-1.0] * 11]]}, "positive weight"),
        ({"weights": [[-1.0] * 15, [-1e9] * 12]}, "beyond"),
        ({"intercept": float("nan")}, "beyond"),
        ({"intercept": "0"}, "malformed"),
        ({"knots": [[0.0, 0.0], [0.0, 1.0]]}, "rise"),
        ({"knots": [], "weights": []}, "knots of 0"),
        ({"colour": 1}, "unknown keys"),
    ],
)
def test_a_malformed_prior_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        SplinePrior.from_dict(DICT | change)
    with pytest.raises(ModelError, match="malformed"):
        SplinePrior.from_dict({key: DICT[key] for key in ("knots", "weights")})


def test_vectors_and_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ModelError, match="1 \\+ 27 parameters"):
        SplinePrior.of_parameters(PARAMETERS[:-1])
    with pytest.raises(ModelError, match="reads 2 distances"):
        PRIOR.score(np.zeros((3, 3)))
