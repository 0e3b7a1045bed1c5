"""Charts show what the figures say, and survive figures that have nothing to show."""

from __future__ import annotations

import copy
import re
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from market.core.errors import ModelError
from training.reports.charts import (
    contributions_chart,
    frontier_chart,
    log_loss_chart,
    p_star_chart,
    precision_recall_chart,
    ratio_chart,
    reliability_chart,
    review_charts,
    skill_chart,
)
from training.reports.run_record import RunRecord

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def markers(svg: str, artist: str) -> list[tuple[float, float]]:
    """Places of the markers of a named artist, in points from the upper left corner."""
    root = ElementTree.fromstring(svg)  # noqa: S314
    (group,) = (node for node in root.iter(f"{SVG}g") if node.get("id") == artist)
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in group.iter(f"{SVG}use")]


def test_every_chart_is_well_formed_and_refers_to_nothing_outside(charts: dict[str, str]) -> None:
    names = ("reliability", "log_loss", "precision_recall", "months")
    assert set(charts) == {
        *(f"{name}_{h}h" for name in names for h in (1, 8)),
        "contributions_8h",
        "frontier",
        "uncovered_ratio",
        "p_star",
    }
    for svg in charts.values():
        ElementTree.fromstring(svg)  # noqa: S314
        addresses = re.findall(r"[a-z]+://[^\"' ]+", svg)
        assert all(address.startswith("http://www.w3.org/") for address in addresses)
        assert "nan" not in svg
        assert not re.search(r'href="[^#]|url\([^#]|<script|<image', svg)


def test_same_figures_give_the_same_bytes_without_a_date(
    record: RunRecord, charts: dict[str, str]
) -> None:
    assert review_charts(record.evaluation, record.review, record.backtest) == charts
    assert not any("<metadata" in svg for svg in charts.values())


def test_pyplot_state_is_not_touched(record: RunRecord) -> None:
    before = "matplotlib.pyplot" in sys.modules
    review_charts(record.evaluation, record.review, record.backtest)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_bin_without_events_is_hollow_and_one_forecast_at_zero_is_left_out() -> None:
    bins = {
        "predicted": [0.0, 1e-4, 0.01, 0.2],
        "observed": [0.0, 0.0, 0.012, 0.19],
        "low": [0.0, 0.0, 0.008, 0.15],
        "high": [0.001, 0.002, 0.02, 0.24],
        "count": [10, 10, 10, 10],
    }
    svg = reliability_chart("8", bins)
    assert len(markers(svg, "bins")) == 2
    assert len(markers(svg, "bins_without_events")) == 1
    with pytest.raises(ModelError, match="no bin to draw"):
        reliability_chart("8", {"predicted": [0.0], "observed": [0.0]})


def test_bin_above_the_diagonal_is_drawn_above_it() -> None:
    svg = reliability_chart("8", {"predicted": [0.01, 0.1], "observed": [0.01, 0.2]})
    (x0, y0), (x1, y1) = markers(svg, "bins")
    low, high = reliability_chart("8", {"predicted": [0.01, 0.1], "observed": [0.01, 0.1]}), svg
    on_diagonal = markers(low, "bins")
    assert x0 < x1
    assert y1 < y0
    assert y1 <= on_diagonal[1][1]
    assert low != high


@pytest.mark.parametrize(("predicted", "observed"), [(1.0, 1.0), (0.01, 0.0)])
def test_one_bin_has_axes_all_the_same(predicted: float, observed: float) -> None:
    svg = reliability_chart("1", {"predicted": [predicted], "observed": [observed]})
    assert "forecast probability" in texts(svg)


def test_best_model_is_on_top_and_an_evaluation_without_models_is_refused() -> None:
    svg = log_loss_chart("1", {"first_passage": 0.04, "margincast": 0.03})
    names = [text for text in texts(svg) if text in {"first_passage", "margincast"}]
    assert names == ["margincast", "first_passage"]
    with pytest.raises(ModelError, match="evaluation of 1 h has no models"):
        log_loss_chart("1", {})


def test_model_and_baseline_are_named_in_the_legend() -> None:
    curves = {"margincast": [[0.5, 0.5], [1.0, 0.0]], "margin_ratio": [[0.5, 0.4], [1.0, 0.0]]}
    svg = precision_recall_chart("8", curves, 0.1)
    assert {"margincast", "margin_ratio", "precision"} <= set(texts(svg))


@pytest.mark.parametrize("interval", [None, [-9.0, 0.05]])
def test_skill_of_a_group_is_green_above_zero_and_red_below(interval: Any) -> None:
    groups = {
        "2025-04": {"log_loss_skill": 0.02, "log_loss_skill_ci95": interval},
        "2025-05": {"log_loss_skill": -0.02, "log_loss_skill_ci95": interval},
    }
    svg = skill_chart("8 h", groups)
    used = re.findall(r"<use [^>]*fill: (#2f7d4f|#b42318)", svg)
    assert list(dict.fromkeys(used)) == ["#2f7d4f", "#b42318"]
    assert {"2025-04", "2025-05"} <= set(texts(svg))


def test_bars_beyond_fourteen_are_summed_up() -> None:
    svg = contributions_chart("8 h", {f"feature_{i}": 1.0 / (i + 1) for i in range(20)})
    rest = sum(1.0 / (i + 1) for i in range(14, 20))
    assert {"feature_13", "6 others, together", f"{rest:.3g}"} <= set(texts(svg))
    assert "feature_14" not in texts(svg)


def test_frontier_shows_the_main_policies_and_the_budgets(record: RunRecord) -> None:
    assert record.backtest is not None
    shown = set(texts(frontier_chart(record.backtest)))
    assert {"margincast", "best_simple", "90%", "95%"} <= shown
    assert "emir_buffer" not in shown  # it has no point


def test_ratios_are_those_to_the_best_simple_estimate(record: RunRecord) -> None:
    assert record.backtest is not None
    shown = set(texts(ratio_chart(record.backtest)))
    assert {"margincast, 90%", "flat, 95%", "volatility_oracle, 95%"} <= shown
    assert not any(text.startswith("best_simple") for text in shown)


def test_frontier_does_not_depend_on_the_order_of_its_points(record: RunRecord) -> None:
    assert record.backtest is not None
    backwards = copy.deepcopy(dict(record.backtest))
    backwards["frontier"]["margincast"].reverse()
    assert frontier_chart(backwards) == frontier_chart(record.backtest)


def test_frontier_without_points_is_refused() -> None:
    with pytest.raises(ModelError, match="no point"):
        frontier_chart({"uncovered": {"best_simple": "x"}, "frontier": {"flat": [[0.1, 0.0]]}})


def test_p_star_chart_marks_the_rule_sets_own(record: RunRecord) -> None:
    assert record.backtest is not None
    frontier = record.backtest["p_star"]
    shown = texts(p_star_chart(frontier))
    assert "p* 0.002 in 1 h, 0.02 in 24 h" in shown
    assert {"uncovered", "prevented share", "volatility oracle"} <= set(shown)
    with pytest.raises(ModelError, match="no point"):
        p_star_chart({**frontier, "points": []})
    before = {name: part for name, part in record.backtest.items() if name != "p_star"}
    older = review_charts(record.evaluation, record.review, before)
    assert "p_star" not in older, "runs of before have no such frontier"
