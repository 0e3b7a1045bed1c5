"""Tables: every figure once, and a CSV that reads back to the last bit."""

from __future__ import annotations

import csv
import io
from typing import Any

from training.reports.review_note import fold_note, training_note
from training.reports.review_tables import TABLES, csv_bytes, review_tables
from training.reports.run_record import RunRecord


def tables(record: RunRecord) -> dict[str, list[dict[str, Any]]]:
    return review_tables(record.evaluation, record.gates, record.review)


def test_full_review_has_every_table_and_rows_of_one_form(record: RunRecord) -> None:
    found = tables(record)
    assert tuple(found) == TABLES
    for rows in found.values():
        assert len({tuple(row) for row in rows}) == 1


def test_without_a_review_the_tables_of_the_evaluation_remain(record: RunRecord) -> None:
    found = review_tables(record.evaluation, record.gates, None)
    assert set(TABLES) - set(found) == {
        "walk_forward", "walk_forward_models", "contributions", "ablation", "folds",
    }  # fmt: skip


def test_csv_reads_back_to_the_last_bit_and_null_is_empty(record: RunRecord) -> None:
    record.evaluation["horizons"]["8"]["models"]["margincast"]["auc"] = None
    rows = tables(record)["metrics"]
    read = list(csv.DictReader(io.StringIO(csv_bytes(rows).decode())))
    assert len(read) == len(rows)
    for written, row in zip(rows, read, strict=True):
        assert float(row["log_loss"]) == written["log_loss"]
        assert row["auc"] == ("" if written["auc"] is None else repr(written["auc"]))


def test_months_and_segments_count_all_rows(record: RunRecord) -> None:
    found = tables(record)
    total = record.evaluation["rows"]
    for horizon in (1, 8):
        assert sum(r["rows"] for r in found["months"] if r["horizon"] == horizon) == total
        for segment in ("direction", "leverage"):
            rows = [
                r["rows"]
                for r in found["segments"]
                if (r["horizon"], r["segment"]) == (horizon, segment)
            ]
            assert sum(rows) == total


def test_fold_that_was_not_evaluated_has_no_row(record: RunRecord) -> None:
    assert {row["fold"] for row in tables(record)["folds"]} == {"walk_forward_2022-11-16", "ftx"}


def test_walk_forward_has_a_row_for_each_evaluated_block_and_the_pool(record: RunRecord) -> None:
    rows = tables(record)["walk_forward"]
    assert [(row["block"], row["horizon"]) for row in rows] == [
        ("walk_forward_2022-11-16", 1), ("walk_forward_2022-11-16", 8), ("pooled", 1),
        ("pooled", 8),
    ]  # fmt: skip
    models = {row["model"] for row in tables(record)["walk_forward_models"]}
    assert {"margincast", "first_passage_isotonic"} <= models


def test_stress_windows_of_test_block_and_walk_forward_blocks_are_told_apart(
    record: RunRecord,
) -> None:
    rows = tables(record)["stress"]
    assert {(row["window"], row["evaluated_in"]) for row in rows} == {
        ("ftx", "test"), ("ftx", "walk_forward_2022-11-16"),
    }  # fmt: skip
    assert all(row["lead_hours_to"] in (1, 8) for row in rows)


def test_accepted_gate_says_by_whom_and_why(record: RunRecord) -> None:
    accepted = {row["gate"]: row["accepted_because"] for row in tables(record)["gates"]}
    assert accepted["stress_8h"] == "one window, <reviewed>"
    assert accepted["parity"] is None
    assert "accepted by an operator: one window" in training_note(record)


def test_note_names_verdict_failed_gates_figures_and_who_may_rely_on_it(
    record: RunRecord,
) -> None:
    note = training_note(record)
    own = record.evaluation["horizons"]["8"]
    for part in (
        "**Kept**",
        "not_worse_than_champion_8h",
        f"{own['models']['margincast']['log_loss']:.4g}",
        f"{own['log_loss_skill']:+.2%}",
        "Reviewers only",
        "review.html",
    ):
        assert part in note, part
    assert "calibration_slope_8h" not in note, "it passed"


def test_note_of_a_fold_has_figures_or_the_reason_for_none(record: RunRecord) -> None:
    assert record.review is not None
    made, skipped, _ = record.review["folds"]
    assert "| 8 h |" in fold_note(made)
    assert fold_note(skipped) == "Not evaluated: no account was called"


def test_note_says_what_a_search_came_to(record: RunRecord) -> None:
    assert "Child runs are the folds." in training_note(record)
    record.manifest["training"]["search"] = {"reason": "trial 3 is used"}
    note = training_note(record)
    assert "**Search for hyperparameters**: trial 3 is used." in note
    assert "Child runs are the folds, and the trials of the search." in note
