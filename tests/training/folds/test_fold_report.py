"""A fold is evaluated on the uniform rows held out; its sums by day are those of its figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import training.folds.fold_report
from market.core.clock import DAY, format_time, parse_time
from market.core.errors import ModelError
from training.folds.cut import Fold, cut_blocks
from training.folds.fold_report import FoldResult, evaluate_fold
from training.labels.dataset import Dataset
from training.labels.splits import Block

DESCRIPTION = {"prices": "real", "accounts": "sampled", "labels": "computed"}
ROWS = 10_000


def block_of(dataset: Dataset) -> Fold:
    """The second half of the data, learnt from the first."""
    first, last = int(dataset.time[0]), int(dataset.time[-1])
    cut = cut_blocks(first, last + DAY, 6, 1)
    (fold,) = cut.folds(dataset)
    return fold


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> FoldResult:
    return evaluate_fold(dataset, block_of(dataset), ROWS, DESCRIPTION, ("BTCUSDT",))


def test_fold_is_evaluated_against_every_baseline_on_its_test_rows(
    result: FoldResult, dataset: Dataset
) -> None:
    report, evaluation = result.report, result.report["evaluation"]
    held = dataset.time[block_of(dataset).block == Block.TEST]
    assert evaluation["span"] == report["held_out"]
    assert report["held_out"] == [format_time(int(t)) for t in (held[0], held[-1])]
    assert parse_time(report["learnt_from"][1]) < parse_time(report["held_out"][0])
    assert evaluation["overlap_with_training_hours"] == 0.0
    assert report["rows"]["test"] == evaluation["rows"] == len(held)
    for horizon in evaluation["horizons"].values():
        assert {"margincast", "first_passage_isotonic", "lightgbm_plain"} <= set(horizon["models"])


def test_skill_from_sums_by_day_is_that_of_the_rows(result: FoldResult) -> None:
    for hours, horizon in result.report["evaluation"]["horizons"].items():
        table = result.report["skill"][hours]
        assert table["best_baseline"] == horizon["best_baseline"]
        assert table["positives"] == horizon["positives"]
        for name in ("log_loss_skill", "log_loss_skill_ci95", "predicted_over_observed"):
            assert table[name] == pytest.approx(horizon[name], rel=1e-9)
        totals = result.totals[int(hours)]
        assert int(totals.rows.sum()) == result.report["evaluation"]["rows"]


def test_block_without_a_part_gives_the_reason(dataset: Dataset) -> None:
    fold = block_of(dataset)
    block = np.where(fold.block == Block.FIT, np.int8(Block.PURGED), fold.block)
    found = evaluate_fold(dataset, Fold(fold.name, fold.kind, block), ROWS, DESCRIPTION, ())
    assert "no row to fit is left" in found.report["not_evaluated"]
    assert found.totals == {}


def test_stress_fold_has_the_same_baselines_on_one_thread(
    dataset: Dataset, result: FoldResult
) -> None:
    stress = Fold("luna", "stress", block_of(dataset).block)
    found = evaluate_fold(dataset, stress, ROWS, DESCRIPTION, (), threads=1)
    for hours, horizon in found.report["evaluation"]["horizons"].items():
        walked = result.report["evaluation"]["horizons"][hours]["models"]
        assert set(walked) - set(horizon["models"]) == {"lightgbm_plain_forecast"}
        assert all(walked[name] == figures for name, figures in horizon["models"].items())


def test_rows_of_a_fold_are_bounded_and_the_same_again(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.folds.fold_report, "fit_candidate", _no_training)
    first, again = (
        evaluate_fold(dataset, block_of(dataset), 1_000, DESCRIPTION, ()).report for _ in range(2)
    )
    assert first == again
    assert first["rows"]["fit"] + first["rows"]["calibrate"] == 1_000
    assert first["rows"]["test"] == 1_000


def test_fold_that_cannot_be_trained_reports_the_reason_and_no_figures(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.folds.fold_report, "fit_candidate", _no_training)
    result = evaluate_fold(dataset, block_of(dataset), ROWS, DESCRIPTION, ())
    assert result.report["not_evaluated"] == "no account was called"
    assert "evaluation" not in result.report
    assert result.totals == {}


def _no_training(*_: Any, **__: Any) -> None:
    raise ModelError("no account was called")
