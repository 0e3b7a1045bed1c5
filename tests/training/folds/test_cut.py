"""Blocks follow the calendar, and no fold trains on rows it is evaluated on or could not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from market.core.clock import DAY, HOUR, format_time, parse_time
from market.core.errors import ModelError
from training.evaluation.stress import STRESS_WINDOWS
from training.folds.cut import (
    LEAST_TRAINING,
    LONGEST_CALIBRATION,
    BlockCut,
    cut_blocks,
    stress_folds as cut_stress,
)
from training.labels.dataset import Dataset
from training.labels.splits import EMBARGO_HOURS, Block

HORIZON = 8


@pytest.fixture(scope="module")
def bare(make_dataset: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Makes data sets of which only times, samples and horizon count."""
    row = make_dataset(days=1, per_hour=1).take(np.arange(1))

    def make(time: np.ndarray, horizon: int) -> Dataset:
        n = len(time)
        ones = np.ones(n)
        return replace(row, time=time, horizons=(horizon,), weight=ones, uniform=ones > 0.0)

    return make


def dates(cut: BlockCut) -> list[str]:
    return [format_time(start)[:10] for start, _ in cut.spans]


def span(start: str, end: str) -> tuple[int, int]:
    return parse_time(start), parse_time(end)


def test_blocks_are_calendar_half_years_and_the_last_ends_with_the_data() -> None:
    cut = cut_blocks(*span("2022-06-08", "2025-09-01"), 6, 20)
    assert cut.length == "6 calendar months"
    assert dates(cut) == [
        "2022-07-01", "2023-01-01", "2023-07-01", "2024-01-01", "2024-07-01", "2025-01-01",
        "2025-07-01",
    ]  # fmt: skip
    assert cut.spans[-1][1] == parse_time("2025-09-01")
    assert all(earlier[1] == later[0] for earlier, later in pairwise(cut.spans))


def test_block_without_two_weeks_before_it_is_left_out() -> None:
    assert dates(cut_blocks(*span("2022-06-18", "2023-09-01"), 6, 20))[0] == "2023-01-01"
    assert dates(cut_blocks(*span("2022-06-17", "2023-09-01"), 6, 20))[0] == "2022-07-01"


def test_the_newest_blocks_are_kept() -> None:
    assert dates(cut_blocks(*span("2022-06-08", "2025-09-01"), 6, 2)) == [
        "2025-01-01", "2025-07-01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "length", "blocks"),
    [
        ("2024-12-27", "3 calendar months", ["2024-04-01", "2024-07-01", "2024-10-01"]),
        ("2024-04-01", "1 calendar month", ["2024-02-01", "2024-03-01"]),
        (
            "2024-02-10",
            "equal stretches of 10 days",
            ["2024-01-11", "2024-01-21", "2024-01-31"],
        ),
    ],
)
def test_short_data_are_cut_into_shorter_blocks_which_is_said(
    end: str, length: str, blocks: list[str]
) -> None:
    cut = cut_blocks(*span("2024-01-01", end), 6, 20)
    assert (cut.length, dates(cut)) == (length, blocks)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3000), st.integers(5, 1500), st.sampled_from([1, 2, 3, 4, 6, 12]),
    st.integers(1, 30), st.integers(1, 48),
)  # fmt: skip
def test_walk_forward_trains_only_on_matured_labels(
    bare: Callable[..., Dataset], first_day: int, days: int, months: int, most: int, horizon: int
) -> None:
    first = parse_time("2016-01-01") + first_day * DAY
    end = first + days * DAY
    time = np.arange(first, end, 6 * HOUR, dtype=np.int64)
    cut = cut_blocks(first, end, months, most)
    assert 1 <= len(cut.spans) <= most
    evaluated = np.zeros(len(time), dtype=np.int64)
    for fold in cut.folds(bare(time, horizon)):
        fit, calibrate, test = (
            time[fold.block == part] for part in (Block.FIT, Block.CALIBRATE, Block.TEST)
        )
        evaluated += fold.block == Block.TEST
        learnt = np.concatenate((fit, calibrate))
        assert learnt.max() + horizon * HOUR <= test.min(), "only what was known is learnt from"
        if len(fit) and len(calibrate):
            assert fit.max() + horizon * HOUR <= calibrate.min()
            assert calibrate.max() - calibrate.min() <= LONGEST_CALIBRATION
    inside = (time >= cut.spans[0][0]) & (time + horizon * HOUR <= end)
    if cut.spans[0][0] - first >= LEAST_TRAINING:
        np.testing.assert_array_equal(evaluated, inside, "each row of a block once")


def test_training_rows_have_weight_test_rows_are_uniform_and_calibration_ends_with_the_weights(
    bare: Callable[..., Dataset],
) -> None:
    """Rows without weight, as those of a test block, leave no gap where calibration would be."""
    start = parse_time("2024-07-01")
    time = np.arange(parse_time("2023-01-01"), parse_time("2024-10-01"), HOUR, dtype=np.int64)
    data = bare(time, HORIZON)
    last = start - 120 * DAY
    data = replace(
        data, weight=np.where(time < last, 2.0, 0.0), uniform=np.arange(len(time)) % 2 == 0
    )
    fold = list(cut_blocks(int(time[0]), int(time[-1]), 6, 20).folds(data))[-1]
    calibrate = time[fold.block == Block.CALIBRATE]
    assert calibrate[-1] == last - HOUR
    assert (data.weight[(fold.block == Block.FIT) | (fold.block == Block.CALIBRATE)] > 0.0).all()
    assert data.uniform[fold.block == Block.TEST].all()


@pytest.mark.parametrize(("months", "most"), [(5, 1), (0, 1), (6, 0)])
def test_impossible_blocks_are_refused(months: int, most: int) -> None:
    with pytest.raises(ModelError, match="divisor of 12"):
        cut_blocks(0, 10 * DAY, months, most)


def test_empty_span_is_refused() -> None:
    with pytest.raises(ModelError, match="give a span"):
        cut_blocks(DAY, DAY, 6, 1)


def test_stress_fold_holds_out_the_window_and_keeps_the_embargo_after_it(dataset: Dataset) -> None:
    (fold,) = cut_stress(dataset, int(dataset.time[-1]))
    assert fold.kind == "stress"
    (window,) = [w for w in STRESS_WINDOWS if w.name == "ftx"]
    held = dataset.time[fold.block == Block.TEST]
    assert (int(held[0]), int(held[-1])) == (window.start, window.end - HOUR)
    learnt = dataset.time[(fold.block == Block.FIT) | (fold.block == Block.CALIBRATE)]
    assert learnt[learnt >= window.end].min() == window.end + EMBARGO_HOURS * HOUR
    assert learnt[learnt < window.start].max() + HORIZON * HOUR <= window.start


def test_rows_after_the_end_take_part_in_no_stress_fold(dataset: Dataset) -> None:
    end = int(dataset.time[-1]) - 10 * DAY
    (fold,) = cut_stress(dataset, end)
    assert (fold.block[dataset.time + HORIZON * HOUR > end] == Block.PURGED).all()


def test_window_at_the_edge_of_the_data_or_without_training_rows_is_not_held_out(
    make_dataset: Callable[..., Dataset],
) -> None:
    for days, start in ((30, "2022-11-06T00:00:00Z"), (12, "2022-11-05T00:00:00Z")):
        data = make_dataset(days=days, start=start)
        assert list(cut_stress(data, int(data.time[-1]) + HORIZON * HOUR)) == []
