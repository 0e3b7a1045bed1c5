from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from market.core.clock import DAY, HOUR, format_time, parse_time
from market.core.errors import ModelError
from training.evaluation.stress import STRESS_WINDOWS
from training.labels.splits import (
    EMBARGO_HOURS,
    Block,
    default_boundaries,
    held_out_window,
    purged_split,
)

START = parse_time("2024-01-01")
hours = st.integers(0, 500)
times = st.lists(hours, min_size=1, max_size=60)


def at(hour: int) -> int:
    return START + hour * HOUR


def test_boundary_rows_by_hand() -> None:
    t = np.array([at(h) for h in (0, 92, 93, 99, 100, 192, 193, 200, 292, 293, 400)])
    block = purged_split(t, 8, at(100), at(200), at(300))
    fit, calibrate, test, purged = Block.FIT, Block.CALIBRATE, Block.TEST, Block.PURGED
    assert block.tolist() == [
        fit, fit, purged, purged, calibrate, calibrate, purged, test, test, purged, purged,
    ]  # fmt: skip
    assert block.dtype == np.int8


@settings(max_examples=150, deadline=None)
@given(times, st.integers(1, 30), st.lists(hours, min_size=3, max_size=3, unique=True))
def test_label_windows_never_overlap_between_blocks(
    rows: list[int], horizon: int, ends: list[int]
) -> None:
    t = np.array([at(h) for h in rows])
    boundaries = [at(h) for h in sorted(ends)]
    block = purged_split(t, horizon, *boundaries)
    label_end = t + horizon * HOUR
    for earlier, later in ((Block.FIT, Block.CALIBRATE), (Block.CALIBRATE, Block.TEST)):
        if (block == earlier).any() and (block == later).any():
            # The window (t, t + h] is open on the left: meeting at a point is no overlap.
            assert label_end[block == earlier].max() <= t[block == later].min()
    # Nothing is purged that could have stayed.
    crosses = np.zeros(len(t), dtype=bool)
    for boundary in boundaries:
        crosses |= (t < boundary) & (label_end > boundary)
    np.testing.assert_array_equal(block == Block.PURGED, crosses | (t >= boundaries[-1]))


@settings(max_examples=100, deadline=None)
@given(times, st.integers(1, 24), st.integers(0, 200), st.integers(1, 200), st.integers(0, 200))
def test_embargo_keeps_training_away_from_the_held_out_window(
    rows: list[int], horizon: int, start: int, length: int, embargo: int
) -> None:
    t = np.array([at(h) for h in rows])
    split = held_out_window(t, at(start), at(start + length), horizon, embargo)
    assert not (split.train & split.held).any()
    label_end = t + horizon * HOUR
    for decided in t[split.held]:
        overlap = (t[split.train] < decided + horizon * HOUR) & (label_end[split.train] > decided)
        assert not overlap.any()
    after = t[split.train & (t >= at(start))]
    assert (after >= at(start + length + max(embargo, horizon))).all()


def test_embargo_is_a_week_by_default() -> None:
    t = np.array([at(h) for h in (76, 77, 100, 109, 110, 277, 278)])
    split = held_out_window(t, at(100), at(110), 24)
    assert EMBARGO_HOURS == 168
    assert split.train.tolist() == [True, False, False, False, False, False, True]
    assert split.held.tolist() == [False, False, True, True, False, False, False]


def test_embargo_shorter_than_the_horizon_is_lengthened_to_it() -> None:
    t = np.array([at(h) for h in (109, 111, 133, 134)])
    split = held_out_window(t, at(100), at(110), 24, embargo_hours=0)
    assert split.train.tolist() == [False, False, False, True]


def test_stress_windows_are_the_event_day_and_three_on_each_side() -> None:
    ftx = next(window for window in STRESS_WINDOWS if window.name == "ftx")
    assert format_time(ftx.start) == "2022-11-05T00:00:00Z"
    assert format_time(ftx.end) == "2022-11-12T00:00:00Z"
    assert [w.event[:7] for w in STRESS_WINDOWS] == [
        "2020-03", "2021-05", "2022-05", "2022-06", "2022-11", "2024-08", "2025-04",
    ]  # fmt: skip
    assert all(a.end <= b.start for a, b in pairwise(STRESS_WINDOWS))


def test_default_boundaries_are_60_20_20() -> None:
    assert default_boundaries(START, START + 10 * DAY) == (
        START + 6 * DAY,
        START + 8 * DAY,
        START + 10 * DAY,
    )


def test_impossible_splits_are_refused() -> None:
    t = np.array([at(0), at(1)])
    with pytest.raises(ModelError, match="do not rise"):
        purged_split(t, 1, at(5), at(5), at(6))
    with pytest.raises(ModelError, match="horizon"):
        purged_split(t, 0, at(5), at(6), at(7))
    with pytest.raises(ModelError, match="int64"):
        purged_split(t / 1.0, 1, at(5), at(6), at(7))
    with pytest.raises(ModelError, match="impossible"):
        held_out_window(t, at(5), at(5), 1)
    with pytest.raises(ModelError, match="span"):
        default_boundaries(START, START)
