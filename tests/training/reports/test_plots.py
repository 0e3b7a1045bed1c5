"""Plots are real pictures, keep no state, and survive what log axes and JSON nulls do not like."""

from __future__ import annotations

import copy
import io
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from market.core.errors import ModelError
from training.reports.plots import frontier_plot, log_loss_plot, reliability_plot, training_plots

HORIZON: dict[str, Any] = {
    "models": {
        "margincast": {"log_loss": 0.030},
        "first_passage": {"log_loss": 0.040},
        "volatility_oracle": None,
    },
    "reliability": {
        "predicted": [0.0, 1e-5, 1e-3, 0.02, 0.3],
        "observed": [0.0, 0.0, 2e-3, 0.018, 0.35],
        "count": [100, 100, 100, 100, 100],
    },
}
EVALUATION: dict[str, Any] = {"horizons": {h: copy.deepcopy(HORIZON) for h in ("1", "8", "24")}}
BACKTEST: dict[str, Any] = {
    "budget": 0.05,
    "frontier": {
        "margincast": [[0.1, 31.0], [0.02, 73.0], [0.05, 48.0]],
        "flat_buffer": [[0.02, 82.0], [0.05, 59.0], [0.1, 40.0]],
    },
}


def pixels(png: bytes) -> Any:
    return imread(io.BytesIO(png), format="png")


def test_every_plot_is_a_legible_png_with_something_drawn() -> None:
    plots = training_plots(EVALUATION, BACKTEST)
    assert set(plots) == {"reliability", "log_loss", "frontier"}
    for png in plots.values():
        image = pixels(png)
        assert min(image.shape[:2]) >= 300
        assert len(np.unique(image[:, :, 0])) > 10
        assert len(png) < 200_000


def test_without_a_backtest_there_is_no_frontier() -> None:
    assert set(training_plots(EVALUATION)) == {"reliability", "log_loss"}


def test_same_figures_give_the_same_bytes() -> None:
    assert training_plots(EVALUATION, BACKTEST) == training_plots(EVALUATION, BACKTEST)


def test_one_panel_a_horizon() -> None:
    one = {"horizons": {"8": HORIZON}}
    assert (
        pixels(reliability_plot(EVALUATION)).shape[1] == 3 * pixels(reliability_plot(one)).shape[1]
    )
    assert pixels(log_loss_plot(EVALUATION)).shape[1] == 3 * pixels(log_loss_plot(one)).shape[1]


def test_pyplot_state_is_not_touched() -> None:
    before = "matplotlib.pyplot" in sys.modules
    training_plots(EVALUATION, BACKTEST)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_reliability_draws_bins_without_events() -> None:
    seen = copy.deepcopy(HORIZON)
    seen["reliability"]["count"][1] = 0
    with_triangle = reliability_plot({"horizons": {"1": HORIZON}})
    assert with_triangle != reliability_plot({"horizons": {"1": seen}})


def test_reliability_with_no_events_at_all() -> None:
    quiet = copy.deepcopy(HORIZON)
    quiet["reliability"]["observed"] = [0.0] * 5
    assert pixels(reliability_plot({"horizons": {"1": quiet}})).size


def test_reliability_at_certainty() -> None:
    sure = {"reliability": {"predicted": [1.0], "observed": [1.0], "count": [3]}}
    assert pixels(reliability_plot({"horizons": {"1": sure}})).size


def test_reliability_with_nothing_to_draw_is_refused() -> None:
    empty = {"reliability": {"predicted": [0.0], "observed": [0.0], "count": [3]}}
    with pytest.raises(ModelError, match="reliability of 8 h"):
        reliability_plot({"horizons": {"8": empty}})


@pytest.mark.parametrize("plot", [reliability_plot, log_loss_plot])
def test_no_horizons_is_refused(plot: Any) -> None:
    with pytest.raises(ModelError, match="no horizons"):
        plot({"horizons": {}})


def test_log_loss_without_models_is_refused() -> None:
    with pytest.raises(ModelError, match="evaluation of 1 h has no models"):
        log_loss_plot({"horizons": {"1": {"models": {"volatility_oracle": None}}}})


def test_frontier_does_not_depend_on_the_order_of_its_points() -> None:
    ordered = copy.deepcopy(BACKTEST)
    ordered["frontier"]["margincast"].sort()
    assert frontier_plot(ordered) == frontier_plot(BACKTEST)


@pytest.mark.parametrize("points", [[], [1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_frontier_of_anything_but_pairs_is_refused(points: list[Any]) -> None:
    with pytest.raises(ModelError, match="frontier of 'none'"):
        frontier_plot({"budget": 1.0, "frontier": {"none": points}})


def test_empty_frontier_is_refused() -> None:
    with pytest.raises(ModelError, match="empty frontier"):
        frontier_plot({"budget": 1.0, "frontier": {}})
