"""Coverage tests against published figures and the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import binom, chi2

from market.core.errors import DataError
from training.backtest.var_backtests import (
    christoffersen_independence,
    conditional_coverage,
    kupiec,
)

# Kupiec (1995), table: exceedances that do not reject at the 5% level, exclusive bounds. For 255
# days at 1% it says under 7; that none at all has LR = 5.13 and rejects too is not in the table.
REGIONS = [
    (0.01, 255, 0, 7),
    (0.01, 510, 1, 11),
    (0.01, 1000, 4, 17),
    (0.025, 255, 2, 12),
    (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21),
    (0.05, 510, 16, 36),
    (0.05, 1000, 37, 65),
]


@pytest.mark.parametrize(("rate", "windows", "below", "above"), REGIONS)
def test_kupiec_non_rejection_regions_are_the_published_ones(
    rate: float, windows: int, below: int, above: int
) -> None:
    kept = [x for x in range(windows // 5) if kupiec(x, windows, rate).p_value > 0.05]
    assert kept == list(range(below + 1, above))


def test_kupiec_j_p_morgan_1998() -> None:
    """Jorion, Value at Risk, chapter 6: 20 exceptions in 252 days at 95%, LR = 3.91."""
    assert kupiec(20, 252, 0.05).statistic == pytest.approx(3.91, abs=0.005)


def test_kupiec_is_twice_the_log_likelihood_ratio_of_the_binomial() -> None:
    expected = 2.0 * (binom.logpmf(5, 250, 5 / 250) - binom.logpmf(5, 250, 0.01))
    found = kupiec(5, 250, 0.01)
    assert found.statistic == pytest.approx(expected, rel=1e-12)
    assert found.p_value == pytest.approx(chi2.sf(expected, 1), rel=1e-12)


def test_kupiec_without_any_or_with_only_exceedances() -> None:
    assert kupiec(0, 100, 0.01).statistic == pytest.approx(-200.0 * math.log(0.99))
    assert kupiec(10, 10, 0.01).statistic == pytest.approx(-20.0 * math.log(0.01))


def test_christoffersen_j_p_morgan_1998() -> None:
    """Jorion, same place: 6 of 20 exceptions follow one, LR_ind = 9.53."""
    hits = np.zeros(253, dtype=bool)
    hits[4:11] = True  # six transitions from exceedance to exceedance
    hits[20 : 20 + 13 * 10 : 10] = True  # thirteen more runs of one day
    before, after = hits[:-1], hits[1:]
    counts = [int((a & b).sum()) for a in (~before, before) for b in (~after, after)]
    assert counts == [218, 14, 14, 6]
    assert christoffersen_independence(hits).statistic == pytest.approx(9.53, abs=0.005)


def test_conditional_coverage_is_the_sum_with_two_degrees_of_freedom() -> None:
    hits = np.zeros(250, dtype=bool)
    hits[[10, 11, 12, 90]] = True
    expected = kupiec(4, 250, 0.01).statistic + christoffersen_independence(hits).statistic
    found = conditional_coverage(hits, 0.01)
    assert found.statistic == pytest.approx(expected, rel=1e-12)
    assert found.p_value == pytest.approx(math.exp(-expected / 2.0), rel=1e-12)


def test_independence_is_not_rejected_without_exceedances() -> None:
    found = christoffersen_independence(np.zeros(30, dtype=bool))
    assert (found.statistic, found.p_value) == (0.0, 1.0)


def test_exceedances_in_a_row_are_less_independent_than_apart() -> None:
    together, apart = np.zeros(200, dtype=bool), np.zeros(200, dtype=bool)
    together[50:55] = True
    apart[20::40] = True
    assert christoffersen_independence(together).p_value < 0.01
    assert christoffersen_independence(apart).p_value > 0.5


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.floats(0.001, 0.5))
def test_statistics_are_never_negative_and_p_values_are_probabilities(
    values: list[bool], rate: float
) -> None:
    hits = np.array(values)
    for found in (
        kupiec(int(hits.sum()), len(hits), rate),
        christoffersen_independence(hits),
        conditional_coverage(hits, rate),
    ):
        assert found.statistic >= 0.0
        assert 0.0 <= found.p_value <= 1.0


@pytest.mark.parametrize(("x", "n", "rate"), [(-1, 5, 0.1), (6, 5, 0.1), (0, 0, 0.1), (1, 5, 1.0)])
def test_impossible_counts_are_refused(x: int, n: int, rate: float) -> None:
    with pytest.raises(DataError, match="cannot be tested"):
        kupiec(x, n, rate)


def test_a_single_window_has_no_transitions() -> None:
    with pytest.raises(DataError, match="transitions"):
        christoffersen_independence(np.zeros(1, dtype=bool))
