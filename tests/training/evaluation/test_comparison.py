"""Champion against challenger: what differs is named, and which side is better is right."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from training.evaluation.comparison import compare
from training.reports.run_record import RunRecord


def better(champion: RunRecord, challenger: RunRecord, figure: str) -> str:
    (line,) = [
        line
        for line in compare(champion, challenger).lines
        if (line.figure, line.horizon) == (figure, 8)
    ]
    return line.better


@pytest.mark.parametrize(
    ("figure", "key", "before", "after", "side"),
    [
        ("log loss", "log_loss", 0.03, 0.02, "challenger"),
        ("log loss", "log_loss", 0.02, 0.03, "champion"),
        ("AUC", "auc", 0.97, 0.98, "challenger"),
        ("AUC", "auc", 0.97, 0.97, ""),
        ("AUC", "auc", None, 0.97, ""),
        ("calibration slope", "calibration_slope", 1.2, 0.9, "challenger"),
        ("calibration slope", "calibration_slope", 1.05, 0.9, "champion"),
    ],
)
def test_better_side(
    record: RunRecord, figure: str, key: str, before: float | None, after: float, side: str
) -> None:
    champion, challenger = (
        dataclasses.replace(record, evaluation=copy.deepcopy(record.evaluation)) for _ in range(2)
    )
    champion.evaluation["horizons"]["8"]["models"]["margincast"][key] = before
    challenger.evaluation["horizons"]["8"]["models"]["margincast"][key] = after
    assert better(champion, challenger, figure) == side


def test_equal_trainings_differ_in_nothing(record: RunRecord) -> None:
    found = compare(record, record)
    assert found.same_rows
    assert found.differences == ()
    assert found.gates_changed == {}
    assert not [line for line in found.lines if line.better]


def test_data_code_rules_and_settings_that_differ_are_named(record: RunRecord) -> None:
    challenger = dataclasses.replace(
        record,
        manifest={**record.manifest, "ruleset_sha256": "7" * 64, "versions": {"numpy": "3"}},
        review={**(record.review or {}), "provenance": {"code_sha256": "6" * 64}},
        params={"ruleset": "emir-ccp"},
    )
    found = {d.what: (d.champion, d.challenger) for d in compare(record, challenger).differences}
    assert found == {
        "rule set": ("b" * 12, "7" * 12),
        "code": ("e" * 12, "6" * 12),
        "library numpy": ("2.4.6", "3"),
        "setting max_rows": ("1000", "none"),
        "setting ruleset": ("linear-tiers", "emir-ccp"),
    }


def test_figures_of_other_rows_are_marked_as_such(record: RunRecord) -> None:
    other = dataclasses.replace(
        record, evaluation={**record.evaluation, "span": ["2023-01-01", "2023-02-01"]}
    )
    assert not compare(record, other).same_rows


def test_horizon_that_one_lacks_is_left_out(record: RunRecord) -> None:
    short = copy.deepcopy(dict(record.evaluation))
    del short["horizons"]["1"]
    found = compare(record, dataclasses.replace(record, evaluation=short))
    assert {line.horizon for line in found.lines} == {8}


def test_paired_gates_are_the_challengers_against_the_champion(record: RunRecord) -> None:
    assert list(compare(record, record).paired) == ["not_worse_than_champion_8h"]


@pytest.mark.parametrize("incumbent", ["d" * 64, "none", None])
def test_gates_against_another_champion_are_not_shown_as_of_this_one(
    record: RunRecord, incumbent: str | None
) -> None:
    challenger = dataclasses.replace(record, incumbent=incumbent)
    assert compare(record, challenger).paired == {}
