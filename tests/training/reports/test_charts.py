"""Charts show what the figures say, and survive figures that have nothing to show."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from market.core.errors import ModelError
from training.reports.charts import (
    bars_chart,
    frontier_chart,
    precision_recall_chart,
    reliability_chart,
    review_charts,
    skill_chart,
)
from training.reports.run_record import Reviewed


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter() if node.text]  # noqa: S314


def test_every_chart_is_well_formed_and_refers_to_nothing_outside(reviewed: Reviewed) -> None:
    charts = review_charts(reviewed.evaluation, reviewed.review, reviewed.backtest)
    assert set(charts) == {
        *(f"{name}_{h}h" for name in ("reliability", "precision_recall", "months") for h in (1, 8)),
        "contributions_8h",
        "frontier",
    }
    for svg in charts.values():
        ElementTree.fromstring(svg)  # noqa: S314
        addresses = re.findall(r"[a-z]+://[^\"' ]+", svg)
        assert set(addresses) == {"http://www.w3.org/2000/svg"}
        assert "nan" not in svg
        assert not re.search(r"\bhref|url\(|<script|<image", svg)


def test_same_figures_give_the_same_bytes(reviewed: Reviewed) -> None:
    once, again = (
        review_charts(reviewed.evaluation, reviewed.review, reviewed.backtest) for _ in range(2)
    )
    assert once == again


def test_bin_without_events_is_hollow_and_one_forecast_at_zero_is_left_out() -> None:
    bins = {
        "predicted": [0.0, 1e-4, 0.01, 0.2],
        "observed": [0.0, 0.0, 0.012, 0.19],
        "low": [0.0, 0.0, 0.008, 0.15],
        "high": [0.001, 0.002, 0.02, 0.24],
        "count": [10, 10, 10, 10],
    }
    svg = reliability_chart("8", bins)
    assert svg.count("<circle") == 3
    assert svg.count('fill="#ffffff" stroke') == 1
    assert any("observed 1.200%" in text for text in texts(svg))
    with pytest.raises(ModelError, match="no bin to draw"):
        reliability_chart("8", {"predicted": [0.0], "observed": [0.0]})


def test_bins_logged_without_intervals_are_drawn_without() -> None:
    svg = reliability_chart("8", {"predicted": [0.01, 0.2], "observed": [0.012, 0.19]})
    assert svg.count("<circle") == 2


def test_point_of_a_curve_lies_where_its_figures_say() -> None:
    svg = precision_recall_chart("8", {"margincast": [[0.5, 0.5], [1.0, 0.0]]}, 0.1)
    (points,) = re.findall(r'points="([^"]+)"', svg)
    (x0, y0), (x1, y1) = ([float(v) for v in pair.split(",")] for pair in points.split())
    assert x1 == pytest.approx(340 - 22, abs=0.1)
    assert y1 == pytest.approx(300 - 44, abs=0.1)
    assert y0 < y1
    assert x0 < x1


@pytest.mark.parametrize("interval", [None, [-9.0, 0.05]])
def test_skill_of_a_group_is_green_above_zero_and_red_below(interval: Any) -> None:
    groups = {
        "2025-04": {"log_loss_skill": 0.02, "log_loss_skill_ci95": interval},
        "2025-05": {"log_loss_skill": -0.02, "log_loss_skill_ci95": interval},
    }
    svg = skill_chart("8 h", groups)
    dots = re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)" r="3.2" fill="(#\w+)"', svg)
    assert [colour for _, colour in dots] == ["#2f7d4f", "#b42318"]
    assert float(dots[0][0]) < float(dots[1][0])
    numbers = [float(v) for v in re.findall(r'(?:y1|y2|cy)="([\d.-]+)"', svg)]
    assert all(math.isfinite(v) and 0.0 <= v <= 260.0 for v in numbers)


def test_bars_beyond_fourteen_are_summed_up() -> None:
    svg = bars_chart("8 h", {f"feature_{i}": 1.0 / (i + 1) for i in range(20)})
    assert svg.count("<rect") == 15
    rest = sum(1.0 / (i + 1) for i in range(14, 20))
    assert {"6 others, together", f"{rest:.3g}"} <= set(texts(svg))


def test_frontier_of_equal_points_has_axes_all_the_same() -> None:
    flat = {"budget": 0.1, "frontier": {"none": [[0.1, 0.0]], "margincast": []}}
    assert "none" in texts(frontier_chart(flat))
