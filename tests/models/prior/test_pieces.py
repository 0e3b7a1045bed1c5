"""Quadratic pieces: equal to the sum of ramps, and never rising to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit

from features.account.log_distance import LOG_LIMIT
from market.core.arrays import Floats
from models.prior.pieces import PriorPieces, distance_share, pieces_of
from models.prior.spline_basis import FORECAST_KNOTS, LONG_RUN_KNOTS
from models.prior.spline_prior import SplinePrior
from tests.models.conftest import random_prior

PRIORS = [random_prior(seed, sparse) for seed, sparse in ((1, 0.0), (2, 0.5), (3, 0.9), (4, 1.0))]
KNOTS = [*FORECAST_KNOTS, *LONG_RUN_KNOTS, -LOG_LIMIT, LOG_LIMIT]


@njit
def _score(pieces, h, x, out):  # type: ignore[no-untyped-def]
    for n in range(len(x)):
        out[n] = 0.0
        for d in range(pieces.column.shape[1]):
            out[n] += distance_share(pieces, h, d, x[n, d])


def by_pieces(prior: SplinePrior, x: Floats) -> Floats:
    out = np.empty(len(x))
    _score(PriorPieces.of([(0, 1)], [prior]), 0, x, out)
    return out


def steps(x: float) -> list[float]:
    return [float(np.nextafter(x, -np.inf)), x, float(np.nextafter(x, np.inf))]


@pytest.mark.parametrize("prior", PRIORS)
def test_pieces_are_the_sum_of_ramps(prior: SplinePrior) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-16.0, 16.0, (4_000, 2))
    x[: 3 * len(KNOTS), 0] = [v for knot in KNOTS for v in steps(knot)]
    x[: 3 * len(KNOTS), 1] = [v for knot in reversed(KNOTS) for v in steps(knot)]
    np.testing.assert_allclose(by_pieces(prior, x), prior.score(x), rtol=0, atol=2e-13)


@pytest.mark.parametrize("prior", PRIORS)
def test_pieces_never_rise_across_a_knot(prior: SplinePrior) -> None:
    for knot in KNOTS:
        for d in (0, 1):
            x = np.zeros((3, 2))
            x[:, d] = steps(knot)
            assert (np.diff(by_pieces(prior, x)) <= 0.0).all()


@given(st.floats(-16.0, 16.0), st.floats(0.0, 1e-6), st.integers(0, 1), st.integers(0, 3))
def test_pieces_never_rise(x: float, step: float, d: int, which: int) -> None:
    rows = np.zeros((3, 2))
    rows[:, d] = [x, np.nextafter(x, np.inf), x + step + 5e-324]
    rows = rows[np.argsort(rows[:, d])]
    assert (np.diff(by_pieces(PRIORS[which], rows)) <= 0.0).all()


def test_each_interval_ends_where_the_next_begins() -> None:
    for prior in PRIORS:
        for one in pieces_of(prior):
            ends = one.constant[:-1] + one.closing[:-1]
            begins = one.constant[1:] + one.opening[1:]
            assert (begins <= ends).all()
            np.testing.assert_allclose(begins, ends, rtol=0, atol=1e-14)


def test_limits_and_missing_values() -> None:
    prior = PRIORS[1]
    x = np.zeros((6, 2))
    x[:, 0] = [-np.inf, -1e300, -LOG_LIMIT, LOG_LIMIT, np.inf, np.nan]
    score = by_pieces(prior, x)
    assert score[0] == score[1] == score[2]
    assert score[3] == score[4]
    assert np.isnan(score[5])


def test_a_column_of_logits_is_its_own_score_and_no_prior_adds_nothing() -> None:
    x, out = np.array([[0.3, 0.0], [np.nan, 0.0]]), np.empty(2)
    _score(PriorPieces.of([(0,), (1,)], []), 0, x, out)
    np.testing.assert_array_equal(out, [0.3, np.nan])
    _score(PriorPieces.of([(), ()], []), 1, x, out)
    np.testing.assert_array_equal(out, [0.0, 0.0])
