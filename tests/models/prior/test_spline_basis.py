"""Ramps against the numerical integral of their hats, and their monotonicity to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.integrate import quad

from features.account.log_distance import LOG_LIMIT
from market.core.errors import ModelError
from models.prior.spline_basis import FORECAST_KNOTS, LONG_RUN_KNOTS, ramps

KNOTS = (FORECAST_KNOTS, LONG_RUN_KNOTS, (-1.0, 0.5))


def integrated(x: float, knots: tuple[float, ...], j: int) -> float:
    """Integral of the hat of knot j up to x over its integral within the knots."""
    hat = np.eye(len(knots))[j]
    whole = quad(np.interp, knots[0], knots[-1], (knots, hat), points=knots, limit=200)[0]
    first, last = min(knots[0], x), max(knots[-1], x)
    inside = [t for t in knots if t < x]
    # `np.interp` continues the end values as constants, as the ramps do.
    start = first if j == 0 and x < knots[0] else knots[0]
    if x < knots[0]:
        area = -quad(np.interp, x, knots[0], (knots, hat))[0]
    else:
        area = quad(np.interp, start, min(x, last), (knots, hat), points=inside or None)[0]
    return float(area / whole)


@pytest.mark.parametrize("knots", KNOTS)
def test_ramps_are_the_integrals_of_hats(knots: tuple[float, ...]) -> None:
    edges = [knots[0] - 3.0, knots[0] - 0.1, knots[-1] + 0.1, knots[-1] + 4.0]
    x = np.sort([*np.linspace(knots[0], knots[-1], 23), *knots, *edges])
    expected = np.array([[integrated(v, knots, j) for j in range(len(knots))] for v in x])
    np.testing.assert_allclose(ramps(x, knots), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("knots", KNOTS)
def test_every_ramp_goes_from_zero_to_one_within_the_knots(knots: tuple[float, ...]) -> None:
    ends = ramps(np.array([knots[0], knots[-1]]), knots)
    np.testing.assert_array_equal(ends, [np.zeros(len(knots)), np.ones(len(knots))])


@given(
    x=st.floats(-20.0, 20.0),
    ulps=st.integers(1, 3),
    knots=st.sampled_from(KNOTS),
)
def test_no_ramp_falls_from_a_number_to_its_neighbours(
    x: float, ulps: int, knots: tuple[float, ...]
) -> None:
    values = np.full(ulps + 1, x)
    for k in range(ulps):
        values[k + 1] = np.nextafter(values[k], np.inf)
    assert (np.diff(ramps(values, knots), axis=0) >= 0.0).all()


def test_ramps_stop_at_the_limits_and_pass_missing_values_on() -> None:
    x = np.array([-np.inf, -LOG_LIMIT, LOG_LIMIT, np.inf, np.nan])
    values = ramps(x, LONG_RUN_KNOTS)
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[2], values[3])
    assert np.isfinite(values[:4]).all()
    assert np.isnan(values[4]).all()


@pytest.mark.parametrize(
    "knots", [(), (1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, np.nan), (0.0, 20.0), (0.0, 1e-4)]
)
def test_knots_that_do_not_rise_are_refused(knots: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="spline knots"):
        ramps(np.zeros(1), knots)
