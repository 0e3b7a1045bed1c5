"""Charts of the drift page: bins of training against now, and the effect by week."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from training.reports.charts import BASELINE_COLOUR, FRAME, INK, MODEL_COLOUR, draw_figure


def bins_chart(name: str, column: Mapping[str, Any]) -> str:
    """Draw the share of rows in each bin of a column, in training and now, side by side."""

    def paint(axes: Axes) -> None:
        for offset, side, colour, label in (
            (-0.2, "reference", FRAME, "training"),
            (0.2, "current", MODEL_COLOUR, "now"),
        ):
            shares = column[side] or []
            places = np.arange(1, len(shares) + 1) + offset
            axes.bar(places, [100.0 * s for s in shares], 0.4, color=colour, label=label)
        axes.set(xlabel="bin, from lowest to highest value", ylabel="rows, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="best")

    return draw_figure(name.replace("_", " "), (380, 230), paint, "svg").decode()


def weeks_chart(columns: Mapping[str, Mapping[str, Any]], floor: float) -> str:
    """Draw the effect of each week of some columns against the limit, dashed."""

    def paint(axes: Axes) -> None:
        colours = (MODEL_COLOUR, BASELINE_COLOUR, "#2f7d4f", "#7d5ba6", "#b42318", "#7b8794")
        for (name, column), colour in zip(columns.items(), colours, strict=False):
            weeks = column["weeks"]
            axes.plot(
                [week["begin"][5:10] for week in weeks],
                [np.nan if week["effect"] is None else week["effect"] for week in weeks],
                marker="o",
                color=colour,
                label=name.replace("_", " "),
            )
        axes.axhline(floor, color=INK, linestyle="--", linewidth=1, label="limit")
        axes.set(xlabel="week from (month-day)", ylabel="KS distance from training")
        axes.set_ylim(bottom=0.0)
        axes.tick_params(axis="x", rotation=45)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw_figure("", (720, 300), paint, "svg").decode()
