"""Groups: none lost, none counted twice, and a weakness in one of them is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import format_time
from training.evaluation.breakdown import SEGMENTATIONS, breakdown, months, segments, stress_windows
from training.evaluation.metrics import clip_probability, log_loss_rows
from training.labels.dataset import Dataset

SEED = 5


def report(data: Dataset, model: np.ndarray, groups: dict[str, Any]) -> dict[str, Any]:
    models = {"margincast": model, "baseline": data.columns["first_passage_8"]}
    return breakdown(
        data, 8, models, groups, model="margincast", baseline="baseline", counted=tuple(models),
        seed=SEED,
    )  # fmt: skip


def test_months_hold_every_row_once_under_its_utc_month(dataset: Dataset) -> None:
    found = months(dataset)
    assert list(found) == ["2022-10", "2022-11", "2022-12"]
    assert (np.sum(list(found.values()), axis=0) == 1).all()
    for name, rows in found.items():
        assert {format_time(int(t))[:7] for t in dataset.time[rows][[0, -1]]} == {name}


def test_stress_windows_hold_seven_days_and_only_those_in_the_data(dataset: Dataset) -> None:
    (window,) = stress_windows(dataset).items()
    name, rows = window
    assert name == "ftx"
    inside = dataset.time[rows]
    assert format_time(int(inside[0])) == "2022-11-05T00:00:00Z"
    assert format_time(int(inside[-1])) == "2022-11-11T23:00:00Z"


@pytest.mark.parametrize("segmentation", SEGMENTATIONS, ids=lambda s: s.name)
def test_bands_of_a_segmentation_part_the_rows(segmentation: Any, dataset: Dataset) -> None:
    assert len(segmentation.labels) == len(segmentation.edges) + 1
    assert list(segmentation.edges) == sorted(segmentation.edges)
    bands = segments(dataset)[segmentation.name]
    assert (np.sum(list(bands.values()), axis=0) == 1).all()


def test_leverage_is_gross_over_equity(dataset: Dataset) -> None:
    # Equity 10, gross 50, maintenance 1: headroom share 9/50, margin ratio 1/10, leverage 5.
    one = dataset.take(np.arange(1))
    one.features[0, ACCOUNT_COLUMNS.index("headroom_share")] = 9.0 / 50.0
    one.columns["margin_ratio"][0] = 0.1
    (leverage,) = [s for s in SEGMENTATIONS if s.name == "leverage"]
    assert leverage.value(one) == pytest.approx([5.0])


def test_rows_of_unknown_value_are_in_no_band(dataset: Dataset) -> None:
    few = dataset.take(np.arange(10))
    few.features[3, ACCOUNT_COLUMNS.index("net_share")] = np.nan
    inside = np.sum(list(segments(few)["direction"].values()), axis=0)
    assert inside.tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]


def test_counts_and_losses_of_the_groups_add_up_to_the_whole(dataset: Dataset) -> None:
    p = np.clip(dataset.columns["first_passage_8"] * 1.1, 0.0, 1.0)
    found = report(dataset, p, months(dataset))
    y = dataset.labels[:, 1]
    assert sum(g["rows"] for g in found.values()) == len(dataset)
    assert sum(g["observed"] for g in found.values()) == y.sum()
    assert sum(g["predicted"]["margincast"] for g in found.values()) == pytest.approx(p.sum())
    weighted = sum(g["rows"] * g["log_loss"]["margincast"] for g in found.values())
    assert weighted == pytest.approx(log_loss_rows(y, clip_probability(p)).sum())


def test_band_where_the_model_is_worse_is_found_and_the_others_are_not(dataset: Dataset) -> None:
    p = dataset.columns["first_passage_8"].copy()
    share = dataset.features[:, ACCOUNT_COLUMNS.index("net_share")]
    p[share >= 0.5] *= 0.3
    found = report(dataset, p, segments(dataset)["direction"])
    assert found["long, over 0.5"]["worse_p"] < 0.001
    assert found["long, over 0.5"]["log_loss_skill_ci95"][1] < 0.0
    assert found["mixed"]["log_loss_skill"] == 0.0
    assert found["mixed"]["worse_p"] == 1.0


def test_nothing_observed_has_no_ratio(dataset: Dataset) -> None:
    quiet = {"quiet": dataset.labels[:, 1] == 0}
    found = report(dataset, dataset.columns["first_passage_8"], quiet)["quiet"]
    assert found["observed"] == 0
    assert found["predicted_over_observed"] == {"margincast": None, "baseline": None}
