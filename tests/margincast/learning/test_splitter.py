"""Purged splits: no training row's label window reaches into a test block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_array_equal

import margincast as mc

HOUR = 3_600_000_000_000


@given(
    hours=st.lists(st.integers(0, 2_000), min_size=40, max_size=200),
    horizon=st.integers(1, 48),
    embargo=st.integers(0, 100),
    walk_forward=st.booleans(),
)
def test_no_training_label_overlaps_the_test_span(
    hours: list[int], horizon: int, embargo: int, *, walk_forward: bool
) -> None:
    times = np.array(hours, dtype=np.int64) * HOUR
    cv = mc.PurgedTimeSeriesSplit(
        3, horizon_hours=horizon, embargo_hours=embargo, walk_forward=walk_forward
    )
    try:
        folds = list(cv.split(times, groups=times))
    except mc.ModelError:
        return
    assert len(folds) == cv.get_n_splits() == 3
    for train, test in folds:
        first, last = times[test].min(), times[test].max()
        before = times[train] < first
        assert (times[train][before] + horizon * HOUR <= first).all()
        assert (times[train][~before] > last + horizon * HOUR - HOUR).all()
        assert not np.intersect1d(train, test).size
        if walk_forward:
            assert before.all()


def test_times_may_be_datetimes_or_nanoseconds() -> None:
    times = pd.date_range("2025-01-01", periods=300, freq="h", tz="UTC")
    cv = mc.PurgedTimeSeriesSplit(2, horizon_hours=8)
    for given_times in (pd.Series(times), times.tz_localize(None), times.to_numpy()):
        for one, other in zip(
            cv.split(None, groups=given_times),
            cv.split(None, groups=times.as_unit("ns").asi8),
            strict=True,
        ):
            assert_array_equal(one[0], other[0])
            assert_array_equal(one[1], other[1])


def test_missing_times_too_few_rows_and_no_training_row_are_refused() -> None:
    times = np.arange(50) * HOUR
    with pytest.raises(mc.ModelError, match="give them as groups="):
        next(mc.PurgedTimeSeriesSplit().split(times))
    with pytest.raises(mc.ModelError, match="cannot be cut"):
        next(mc.PurgedTimeSeriesSplit(80).split(None, groups=times))
    with pytest.raises(mc.ModelError, match="no row's label of 500 h"):
        next(mc.PurgedTimeSeriesSplit(2, horizon_hours=500).split(None, groups=times))
    with pytest.raises(mc.ModelError, match="n_splits is 0"):
        mc.PurgedTimeSeriesSplit(0)
