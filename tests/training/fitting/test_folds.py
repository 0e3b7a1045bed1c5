"""Folds never train on the rows they are evaluated on, nor on the test block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import training.fitting.folds
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import ModelError
from training.evaluation.stress import STRESS_WINDOWS
from training.fitting.folds import Fold, cut_folds, evaluate_fold
from training.labels.dataset import Dataset
from training.labels.splits import EMBARGO_HOURS, Block

DESCRIPTION = {"prices": "real", "accounts": "sampled", "labels": "computed"}
HORIZON = 8


def folds_of(dataset: Dataset, walk: int = 2, *, stress: bool = True) -> list[Fold]:
    return list(cut_folds(dataset.time, HORIZON, test_begin(dataset), walk, stress=stress))


def test_begin(dataset: Dataset) -> int:
    first, last = int(dataset.time[0]), int(dataset.time[-1])
    return first + (last - first) * 8 // 10


test_begin.__test__ = False  # type: ignore[attr-defined]


def test_walk_forward_and_the_stress_window_within_the_span_are_cut(dataset: Dataset) -> None:
    names = [(fold.name, fold.kind) for fold in folds_of(dataset)]
    assert names == [
        ("walk_forward_1", "walk_forward"),
        ("walk_forward_2", "walk_forward"),
        ("ftx", "stress"),
    ]
    assert [fold.kind for fold in folds_of(dataset, 0)] == ["stress"]
    assert folds_of(dataset, 0, stress=False) == []


def test_no_label_window_reaches_from_one_block_into_another(dataset: Dataset) -> None:
    for fold in folds_of(dataset):
        fit, calibrate, held = (
            dataset.time[fold.block == part] for part in (Block.FIT, Block.CALIBRATE, Block.TEST)
        )
        assert len(fit)
        assert len(held)
        assert fit.max() + HORIZON * HOUR <= calibrate.min(), "calibration is later than the fit"
        learnt = np.concatenate((fit, calibrate))
        after = learnt[learnt > held.min()]
        before = learnt[learnt <= held.min()]
        assert before.max() + HORIZON * HOUR <= held.min()
        if fold.kind == "walk_forward":
            assert not len(after), "walk-forward learns from the past only"


def test_stress_fold_holds_out_the_window_and_keeps_the_embargo_after_it(dataset: Dataset) -> None:
    (fold,) = folds_of(dataset, 0)
    (window,) = [w for w in STRESS_WINDOWS if w.name == "ftx"]
    held = dataset.time[fold.block == Block.TEST]
    assert (int(held[0]), int(held[-1])) == (window.start, window.end - HOUR)
    learnt = dataset.time[(fold.block == Block.FIT) | (fold.block == Block.CALIBRATE)]
    after = learnt[learnt >= window.end]
    assert after.min() == window.end + EMBARGO_HOURS * HOUR


def test_rows_that_reach_into_the_test_block_take_part_in_no_fold(dataset: Dataset) -> None:
    late = dataset.time + HORIZON * HOUR > test_begin(dataset)
    for fold in folds_of(dataset):
        assert (fold.block[late] == Block.PURGED).all()


def test_window_at_the_edge_of_the_data_is_not_held_out(
    make_dataset: Callable[..., Dataset],
) -> None:
    late = make_dataset(days=30, start="2022-11-06T00:00:00Z")
    assert folds_of(late, 0) == []


def test_window_that_leaves_no_training_rows_is_not_held_out(
    make_dataset: Callable[..., Dataset],
) -> None:
    # The embargo after the window reaches beyond the end.
    short = make_dataset(days=12, start="2022-11-05T00:00:00Z")
    end = int(short.time[-1]) + HORIZON * HOUR
    assert list(cut_folds(short.time, HORIZON, end, 0, stress=True)) == []


def test_fold_with_too_few_training_rows_reports_the_reason(dataset: Dataset) -> None:
    fold = folds_of(dataset)[0]
    block = np.where(fold.block == Block.FIT, np.int8(Block.PURGED), fold.block)
    report = evaluate_fold(dataset, Fold(fold.name, fold.kind, block), DESCRIPTION, ())
    assert "too short a time" in report["not_evaluated"]


def test_stress_fold_that_trains_on_both_sides_reports_no_overlap(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.fitting.folds, "FOLD_ROWS", 4000)
    (fold,) = folds_of(dataset, 0)
    report = evaluate_fold(dataset, fold, DESCRIPTION, ("BTCUSDT",))
    assert report["learnt_from"][0] < report["held_out"][0] < report["learnt_from"][1]
    assert report["evaluation"]["overlap_with_training_hours"] == 0.0


def test_more_folds_than_the_span_allows_are_refused(dataset: Dataset) -> None:
    few = dataset.take(np.arange(10))
    with pytest.raises(ModelError, match="fewer folds"):
        list(cut_folds(few.time, HORIZON, int(few.time[-1]) + 9 * HOUR, 5, stress=False))


@pytest.fixture(scope="module")
def reported(dataset: Dataset) -> dict[str, Any]:
    return evaluate_fold(dataset, folds_of(dataset)[1], DESCRIPTION, ("BTCUSDT",))


def test_fold_is_evaluated_against_every_baseline_on_its_test_rows(
    reported: dict[str, Any], dataset: Dataset
) -> None:
    fold = folds_of(dataset)[1]
    held = dataset.time[fold.block == Block.TEST]
    evaluation = reported["evaluation"]
    assert evaluation["span"] == reported["held_out"]
    assert reported["held_out"] == [format_time(int(t)) for t in (held[0], held[-1])]
    assert evaluation["overlap_with_training_hours"] == 0.0
    assert reported["rows"]["test"] == evaluation["rows"] == len(held)
    for horizon in evaluation["horizons"].values():
        assert {"margincast", "first_passage_isotonic", "lightgbm_plain"} <= set(horizon["models"])


def test_rows_of_a_fold_are_bounded_and_the_same_again(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.fitting.folds, "FOLD_ROWS", 1500)
    monkeypatch.setattr(training.fitting.folds, "fit_candidate", _no_training)
    fold = folds_of(dataset)[1]
    first, again = (evaluate_fold(dataset, fold, DESCRIPTION, ()) for _ in range(2))
    assert first == again
    assert first["rows"]["fit"] + first["rows"]["calibrate"] == 1500
    assert first["rows"]["test"] == 1500
    assert parse_time(first["learnt_from"][1]) < parse_time(first["held_out"][0])


def test_fold_that_cannot_be_trained_reports_the_reason_and_no_figures(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.fitting.folds, "fit_candidate", _no_training)
    report = evaluate_fold(dataset, folds_of(dataset)[0], DESCRIPTION, ())
    assert report["not_evaluated"] == "no account was called"
    assert "evaluation" not in report


def _no_training(*_: Any) -> None:
    raise ModelError("no account was called")
