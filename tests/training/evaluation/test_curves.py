"""Curves: intervals clustered by day, points on the curve, alert budgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import precision_recall_curve
from statsmodels.stats.proportion import proportion_confint

from training.evaluation.curves import (
    CURVE_POINTS,
    design_effect,
    precision_recall,
    recall_at_budgets,
    reliability,
    wilson_interval,
)


def drawn(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 8.0, n)
    return (rng.random(n) < p).astype(float), p, np.repeat(np.arange(n // 100), 100)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(case: tuple[int, int]) -> None:
    events, n = case
    expected = proportion_confint(events, n, method="wilson")
    assert wilson_interval(events / n, n) == pytest.approx(expected, abs=1e-12)


def test_rows_copied_within_their_day_do_not_narrow_the_interval() -> None:
    y, p, day = drawn()
    once = reliability(y, p, day)
    tenfold = reliability(np.repeat(y, 10), np.repeat(p, 10), np.repeat(day, 10))
    widths = [np.subtract(bins["high"], bins["low"])[-3:] for bins in (once, tenfold)]
    # Copies are no new facts; taken as such they would leave a third of the width.
    assert (widths[1] > 0.7 * widths[0]).all()


def test_design_effect_is_one_for_independent_rows_and_the_copies_for_copied_ones() -> None:
    y, _, day = drawn(40_000)
    assert design_effect(y, day) < 1.3
    whole_days = np.repeat((np.arange(400) % 7 == 0).astype(float), 100)
    assert design_effect(whole_days, np.repeat(np.arange(400), 100)) == pytest.approx(100, rel=0.01)
    assert design_effect(y, np.zeros(len(y), dtype=int)) == 1.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.floats(0.02, 2.0))
def test_bins_expect_equally_many_events_up_to_a_row(seed: int, n: int, shape: float) -> None:
    p = np.random.default_rng(seed).beta(shape, 8.0, n)
    bins = reliability(np.zeros(n), p, np.arange(n))
    expected = np.multiply(bins["predicted"], bins["count"])
    assert sum(bins["count"]) == n
    assert expected.sum() == pytest.approx(p.sum())
    assert (np.diff(bins["predicted"]) >= 0.0).all()
    assert len(expected) <= 10
    assert (expected <= p.sum() / 10 + p.max() * (1 + 1e-9)).all()


def test_a_forecast_of_zero_is_one_bin() -> None:
    bins = reliability([0.0, 1.0], [0.0, 0.0], [0, 1])
    assert bins["count"] == [2]
    assert bins["observed"] == [0.5]


def test_bin_without_events_has_an_upper_bound() -> None:
    y, p, day = drawn()
    y[np.argsort(p)[:3000]] = 0.0
    bins = reliability(y, p, day)
    assert bins["observed"][0] == bins["low"][0] == 0.0
    assert 0.0 < bins["high"][0] < 0.05


def test_intervals_cover_the_truth_about_as_often_as_stated() -> None:
    inside = 0
    for seed in range(60):
        y, p, day = drawn(seed=seed)
        bins = reliability(y, p, day)
        inside += sum(
            low <= truth <= high
            for low, truth, high in zip(bins["low"], bins["predicted"], bins["high"], strict=True)
        )
    assert 0.90 <= inside / 600 <= 0.99


def test_precision_recall_points_lie_on_the_curve_of_scikit_learn() -> None:
    y, p, _ = drawn()
    precision, recall, _ = precision_recall_curve(y, p)
    curve = set(zip(recall.tolist(), precision.tolist(), strict=True))
    points = precision_recall(y, p)
    assert 10 < len(points) <= CURVE_POINTS
    assert all(tuple(point) in curve for point in points)
    assert [r for r, _ in points] == sorted({r for r, _ in points})
    assert points[-1][0] == 1.0
    assert precision_recall(np.zeros(5), np.full(5, 0.1)) == []


def test_recall_at_a_budget_counts_no_more_alerts_than_it_allows() -> None:
    y = np.r_[np.ones(3), np.zeros(97)]
    p = np.r_[0.9, 0.1, 0.8, np.full(97, 0.5)]
    assert recall_at_budgets(y, p) == {"0.01": 1 / 3, "0.05": 2 / 3}
    assert recall_at_budgets(np.zeros(100), p) == {"0.01": None, "0.05": None}
