"""Champion against challenger: what differs is named, and which side is better is right."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from training.evaluation.comparison import compare
from training.reports.run_record import Reviewed


def better(champion: Reviewed, challenger: Reviewed, figure: str) -> str:
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
    reviewed: Reviewed, figure: str, key: str, before: float | None, after: float, side: str
) -> None:
    champion, challenger = (
        dataclasses.replace(reviewed, evaluation=copy.deepcopy(reviewed.evaluation))
        for _ in range(2)
    )
    champion.evaluation["horizons"]["8"]["models"]["margincast"][key] = before
    challenger.evaluation["horizons"]["8"]["models"]["margincast"][key] = after
    assert better(champion, challenger, figure) == side


def test_equal_trainings_differ_in_nothing(reviewed: Reviewed) -> None:
    found = compare(reviewed, reviewed)
    assert found.same_rows
    assert found.differences == ()
    assert found.gates_changed == {}
    assert not [line for line in found.lines if line.better]


def test_data_code_rules_and_settings_that_differ_are_named(reviewed: Reviewed) -> None:
    challenger = dataclasses.replace(
        reviewed,
        manifest={**reviewed.manifest, "ruleset_sha256": "7" * 64, "versions": {"numpy": "3"}},
        review={**(reviewed.review or {}), "provenance": {"code_sha256": "6" * 64}},
        params={"ruleset": "emir-ccp"},
    )
    found = {d.what: (d.champion, d.challenger) for d in compare(reviewed, challenger).differences}
    assert found == {
        "rule set": ("b" * 12, "7" * 12),
        "code": ("e" * 12, "6" * 12),
        "library numpy": ("2.4.6", "3"),
        "setting max_rows": ("1000", "none"),
        "setting ruleset": ("linear-tiers", "emir-ccp"),
    }


def test_figures_of_other_rows_are_not_called_the_same(reviewed: Reviewed) -> None:
    other = dataclasses.replace(
        reviewed, evaluation={**reviewed.evaluation, "span": ["2023-01-01", "2023-02-01"]}
    )
    assert not compare(reviewed, other).same_rows


def test_horizon_that_one_lacks_is_left_out(reviewed: Reviewed) -> None:
    short = copy.deepcopy(dict(reviewed.evaluation))
    del short["horizons"]["1"]
    found = compare(reviewed, dataclasses.replace(reviewed, evaluation=short))
    assert {line.horizon for line in found.lines} == {8}


def test_paired_gates_are_the_challengers_against_the_champion(reviewed: Reviewed) -> None:
    assert list(compare(reviewed, reviewed).paired) == ["not_worse_than_champion_8h"]


@pytest.mark.parametrize("rival", ["d" * 64, "none", None])
def test_gates_against_another_champion_are_not_shown_as_of_this_one(
    reviewed: Reviewed, rival: str | None
) -> None:
    challenger = dataclasses.replace(reviewed, rival=rival)
    assert compare(reviewed, challenger).paired == {}
