"""Charts of a training for its review page and its run, as SVG drawn by matplotlib.

Figures are made without pyplot, and so without state between them; the same figures give the same
bytes under one version of matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from market.core.errors import ModelError
from models.trees.contributions import of_prior

MODEL = "margincast"
ORACLE = "volatility_oracle"

INK, MUTED, GRID, FRAME = "#1f2933", "#52606d", "#e4e7eb", "#9aa5b1"
MODEL_COLOUR, BASELINE_COLOUR = "#1f5fa8", "#b45309"
GOOD, BAD = "#2f7d4f", "#b42318"
POLICY_COLOURS = {
    MODEL: MODEL_COLOUR,
    "margincast_with_hysteresis": "#5b9bd5",
    "flat": "#7b8794",
    "best_simple": "#b45309",
    "sigma_forecast": "#2f7d4f",
    "emir_buffer": "#7d5ba6",
    ORACLE: FRAME,
}
"""Policies that the charts of the add-on show."""

_MOST_BARS = 14
_MOST_LEVEL_LABELS = 7
_POINTS_AN_INCH = 72
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": MODEL,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.edgecolor": FRAME,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "xtick.color": FRAME,
    "ytick.color": FRAME,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.markersize": 6,
    "xtick.major.pad": 6,
    "ytick.major.pad": 5,
    "legend.fontsize": 10,
    "legend.frameon": False,
}
_NO_DATE = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_NO_SOFTWARE = {"Software": None}
_DOTS_AN_INCH = {"svg": 72, "png": 144}

Form = Literal["svg", "png"]
"""Formats of a chart."""


def review_charts(
    evaluation: Mapping[str, Any],
    review: Mapping[str, Any] | None = None,
    backtest: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Draw every chart that the figures allow, by name.

    ``reliability_{h}h``, ``log_loss_{h}h``, ``precision_recall_{h}h``, ``months_{h}h``,
    ``learning_{h}h``, ``contributions_{h}h`` (of the trees, which the prior would dwarf),
    ``frontier``, ``uncovered_ratio`` and ``p_star``.
    """
    charts: dict[str, str] = {}
    for hours, horizon in evaluation["horizons"].items():
        charts[f"reliability_{hours}h"] = reliability_chart(hours, horizon["reliability"])
        losses = {name: f["log_loss"] for name, f in horizon["models"].items() if f}
        charts[f"log_loss_{hours}h"] = log_loss_chart(hours, losses)
        curves = {name: c for name, c in horizon.get("precision_recall", {}).items() if c}
        if curves:
            charts[f"precision_recall_{hours}h"] = precision_recall_chart(
                hours, curves, horizon["base_rate"]
            )
        if horizon.get("months"):
            charts[f"months_{hours}h"] = skill_chart(f"{hours} h", horizon["months"])
    for hours, curve in ((review or {}).get("learning") or {}).items():
        charts[f"learning_{hours}h"] = learning_chart(f"{hours} h", curve)
    contributions = (review or {}).get("contributions") or {}
    for hours, kinds in contributions.items():
        corrections = {name: v for name, v in kinds["features"].items() if not of_prior(name)}
        if corrections:
            charts[f"contributions_{hours}h"] = contributions_chart(f"{hours} h", corrections)
    if backtest is not None and any(
        loss > 0.0 for points in backtest["frontier"].values() for _, loss in points
    ):
        charts["frontier"] = frontier_chart(backtest)
        charts["uncovered_ratio"] = ratio_chart(backtest)
    if backtest is not None and backtest.get("p_star"):  # runs of before have none
        charts["p_star"] = p_star_chart(backtest["p_star"])
    return charts


def reliability_chart(hours: str, reliability: Mapping[str, Any]) -> str:
    """Draw observed share against mean forecast of each bin, log-log, with its 95% interval.

    A bin without events has no place on a logarithmic axis: it is a hollow point on the lower
    edge. Bins forecast at exactly 0 are left out.

    Raises
    ------
    ModelError
        No bin can be drawn.

    References
    ----------
    Bröcker and Smith (2007), "Increasing the reliability of reliability diagrams".
    """
    drawable = np.asarray(reliability["predicted"], dtype=np.float64) > 0.0
    columns = {
        key: np.asarray(reliability[key], dtype=np.float64)[drawable]
        for key in ("predicted", "observed", "low", "high")
        if key in reliability
    }
    predicted, observed = columns["predicted"], columns["observed"]
    if not len(predicted):
        raise ModelError(f"reliability of {hours} h has no bin to draw; evaluate it on more rows")
    shown = np.concatenate([predicted, observed[observed > 0.0]])
    low, high = max(1e-6, 0.5 * float(shown.min())), min(1.0, 1.8 * float(shown.max()))

    def paint(axes: Axes) -> None:
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        axes.set(xlabel="forecast probability", ylabel="observed share")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=5))
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--")
        place, centre = np.clip(predicted, low, high), np.clip(observed, low, high)
        if "low" in columns:
            spread = [
                np.maximum(0.0, centre - np.clip(columns["low"], low, high)),
                np.maximum(0.0, np.clip(columns["high"], low, high) - centre),
            ]
            axes.errorbar(
                place,
                centre,
                spread,
                fmt="none",
                color=MODEL_COLOUR,
                capsize=3,
                elinewidth=1.3,
                clip_on=False,
            )
        for rows, fill, name in (
            (observed > 0.0, MODEL_COLOUR, "bins"),
            (observed <= 0.0, "white", "bins_without_events"),
        ):
            axes.plot(
                place[rows],
                centre[rows],
                "o",
                color=MODEL_COLOUR,
                markerfacecolor=fill,
                clip_on=False,
                gid=name,
            )
        _percent(axes, "xy")

    return _svg(f"{hours} h", (340, 300), paint)


def log_loss_chart(hours: str, losses: Mapping[str, float]) -> str:
    """Draw the log loss of every model in nats, the best on top; the oracle is a limit, paler.

    Raises
    ------
    ModelError
        There is no model.
    """
    if not losses:
        raise ModelError(f"evaluation of {hours} h has no models; evaluate the bundle again")
    ranked = sorted(losses.items(), key=lambda item: item[1])
    colours = {MODEL: MODEL_COLOUR, ORACLE: GRID}
    return _bars(f"{hours} h: log loss", ranked, [colours.get(name, FRAME) for name, _ in ranked])


def precision_recall_chart(
    hours: str, curves: Mapping[str, Sequence[Sequence[float]]], base_rate: float
) -> str:
    """Draw precision against recall of the model and its best baseline; the base rate is dotted."""

    def paint(axes: Axes) -> None:
        axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
        axes.set(xlabel="recall (share of calls found)", ylabel="precision")
        axes.axhline(base_rate, color=MUTED, linestyle=":", linewidth=1)
        for name in sorted(curves, key=lambda name: name != MODEL):
            ours = name == MODEL
            recall, precision = zip(*curves[name], strict=True)
            axes.plot(
                recall,
                precision,
                color=MODEL_COLOUR if ours else BASELINE_COLOUR,
                linestyle="-" if ours else "--",
                linewidth=1.8,
                zorder=3 if ours else 2,
                label=name,
                gid=name,
            )
        _percent(axes, "xy")
        axes.legend(loc="upper right", frameon=True, edgecolor="none", framealpha=1.0)

    return _svg(f"{hours} h", (340, 300), paint)


def skill_chart(heading: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw the log-loss skill of each group with its 95% interval about the zero line.

    Intervals beyond four times the largest skill (at least ten per cent) are cut at the edge.
    """
    skills = np.array([float(g["log_loss_skill"]) for g in groups.values()])
    reach = max(0.1, 4.0 * float(np.abs(skills).max()))
    # A group of one day has no interval.
    intervals = [g["log_loss_skill_ci95"] or (g["log_loss_skill"],) * 2 for g in groups.values()]
    bounds = np.clip(np.array(intervals), -reach, reach)

    def paint(axes: Axes) -> None:
        axes.set(ylabel="log-loss skill")
        axes.axhline(0.0, color=INK, linewidth=1.2)
        for place, (skill, (low, high)) in enumerate(zip(skills, bounds, strict=True)):
            colour = GOOD if skill >= 0.0 else BAD
            axes.errorbar(
                place,
                skill,
                [[max(0.0, skill - low)], [max(0.0, high - skill)]],
                fmt="o",
                color=colour,
                capsize=3,
                elinewidth=1.3,
            )
        turned = len(groups) > _MOST_LEVEL_LABELS
        axes.set_xticks(
            range(len(groups)),
            list(groups),
            rotation=55 if turned else 0,
            ha="right" if turned else "center",
            rotation_mode="anchor" if turned else "default",
        )
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.08)
        _percent(axes, "y")

    return _svg(heading, (340, 260), paint)


def learning_chart(heading: str, curve: Mapping[str, Sequence[float]]) -> str:
    """Draw train and validation loss by number of trees, each relative to the prior alone."""

    def paint(axes: Axes) -> None:
        axes.set(xlabel="trees", ylabel="log loss against the prior")
        axes.axhline(0.0, color=INK, linewidth=1.2)
        for part, colour in (("train", FRAME), ("validation", MODEL_COLOUR)):
            loss = np.asarray(curve[part], dtype=np.float64)
            axes.plot(curve["rounds"], loss / loss[0] - 1.0, color=colour, label=part)
        axes.legend()
        _percent(axes, "y")

    return _svg(heading, (340, 260), paint)


def contributions_chart(heading: str, values: Mapping[str, float]) -> str:
    """Draw lying bars from the largest down; the smallest beyond fourteen are summed up."""
    ranked = sorted(values.items(), key=lambda item: -item[1])
    shown, rest = ranked[:_MOST_BARS], ranked[_MOST_BARS:]
    colours = [MODEL_COLOUR] * len(shown)
    if rest:
        shown.append((f"{len(rest)} others, together", sum(value for _, value in rest)))
        colours.append(FRAME)
    return _bars(heading, shown, colours)


def frontier_chart(backtest: Mapping[str, Any]) -> str:
    """Draw the uncovered loss of the main policies against their average add-on.

    Both over gross notional, the loss on a logarithmic axis; the budgets of the table are dashed.

    Raises
    ------
    ModelError
        No policy has a point.
    """
    frontier = {
        name: sorted((float(level), float(loss)) for level, loss in points if loss > 0.0)
        for name, points in _main_policies(backtest, backtest["frontier"]).items()
    }
    if not any(frontier.values()):
        raise ModelError("the backtest's frontier has no point; run it with at least one policy")

    def paint(axes: Axes) -> None:
        axes.set(xlabel="average add-on (share of notional)")
        axes.set(ylabel="uncovered loss (share of notional)", yscale="log")
        _percent(axes, "x")
        for name, points in sorted(frontier.items(), key=lambda item: item[0] != MODEL):
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=POLICY_COLOURS.get(name, INK),
                    linewidth=2.6 if name == MODEL else 1.5,
                    linestyle="--" if name == ORACLE else "-",
                    marker="o",
                    zorder=3 if name == MODEL else 2,
                    label=name,
                    gid=name,
                )
        for budget in backtest["uncovered"]["budgets"]:
            level = budget["average_add_on"]
            axes.axvline(level, color=INK, linestyle="--", linewidth=1)
            text = f"{100.0 * budget['flat_coverage']:g}%"
            axes.annotate(text, (level, 1.01), xycoords=("data", "axes fraction"), ha="center")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return _svg("", (720, 340), paint)


def ratio_chart(backtest: Mapping[str, Any]) -> str:
    """Draw each main policy's uncovered loss over the best simple one's, with its 95% interval.

    One band a budget; left of 1 less is uncovered at the same average add-on.
    """
    budgets = backtest["uncovered"]["budgets"]
    bands = [
        (budget["flat_coverage"], name, figures)
        for budget in budgets
        for name, figures in _main_policies(backtest, budget["policies"]).items()
        if name != "best_simple" and figures["ratio_to_best_simple"] is not None
    ]

    def paint(axes: Axes) -> None:
        for place, (_, name, figures) in enumerate(bands):
            ratio = figures["ratio_to_best_simple"]
            low, high = figures["ratio_to_best_simple_ci95"] or (ratio, ratio)
            colour = POLICY_COLOURS.get(name, INK)
            axes.plot([low, high], [place, place], color=colour, linewidth=2, gid="interval")
            axes.plot([ratio], [place], color=colour, marker="o", gid="ratio")
        axes.axvline(1.0, color=INK, linestyle="--", linewidth=1)
        for place in range(1, len(bands)):
            if bands[place][0] != bands[place - 1][0]:
                axes.axhline(place - 0.5, color=FRAME, linewidth=1)
        labels = [f"{name}, {100.0 * coverage:g}%" for coverage, name, _ in bands]
        axes.set_yticks(range(len(bands)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="uncovered loss over that of the best simple estimate")

    return _svg("", (720, 80 + 24 * len(bands)), paint)


def p_star_chart(frontier: Mapping[str, Any]) -> str:
    """Draw what factors on p* leave uncovered and prevent, against the average add-on.

    Uncovered loss on the left axis, with that of the volatility oracle at the same average level
    dashed; the share of breaches prevented on the right one. Bars are 95% intervals. The rule set's
    own p* is marked.

    Raises
    ------
    ModelError
        There is no point.
    """
    points = frontier["points"]
    if not points:
        raise ModelError("the frontier of p* has no point; run the backtest again")
    level = [point["average_add_on"] for point in points]

    def bars(axes: Axes, name: str, colour: str) -> None:
        known = [point for point in points if point[name] is not None]
        low_high = [point[f"{name}_ci95"] or [point[name]] * 2 for point in known]
        axes.errorbar(
            [point["average_add_on"] for point in known],
            [point[name] for point in known],
            [
                [max(0.0, p[name] - low) for p, (low, _) in zip(known, low_high, strict=True)],
                [max(0.0, high - p[name]) for p, (_, high) in zip(known, low_high, strict=True)],
            ],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            elinewidth=1.0,
            linewidth=1.8,
            label=name.replace("_", " "),
        )

    def paint(axes: Axes) -> None:
        axes.set(xlabel="average add-on (share of notional)")
        axes.set(ylabel="uncovered loss (share of notional)")
        bars(axes, "uncovered", MODEL_COLOUR)
        oracle = [point["oracle_uncovered"] for point in points]
        axes.plot(level, oracle, color=MUTED, linestyle="--", label="volatility oracle")
        right = axes.twinx()
        right.grid(visible=False)
        right.set(ylabel="breaches prevented", ylim=(0.0, 1.05))
        bars(right, "prevented_share", GOOD)
        _percent(axes, "xy")
        _percent(right, "y")
        for point in points:
            if point["factor"] == 1.0:
                axes.axvline(point["average_add_on"], color=INK, linestyle="--", linewidth=1)
                text = ", ".join(f"{p:.3g} in {h} h" for h, p in frontier["p_star"].items())
                at = (point["average_add_on"], 1.01)
                axes.annotate(f"p* {text}", at, xycoords=("data", "axes fraction"), ha="center")
        handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        axes.legend(handles=handles, loc="center right", frameon=True, edgecolor="none")

    return _svg("", (720, 340), paint)


def _main_policies(backtest: Mapping[str, Any], policies: Mapping[str, Any]) -> dict[str, Any]:
    """Policies of `POLICY_COLOURS`, the best simple estimate under that name."""
    best = backtest["uncovered"]["best_simple"]
    named = {"best_simple" if name == best else name: part for name, part in policies.items()}
    return {name: named[name] for name in POLICY_COLOURS if name in named}


def _bars(heading: str, values: Sequence[tuple[str, float]], colours: Sequence[str]) -> str:
    """Lying bars from the top down, each with its figure."""

    def paint(axes: Axes) -> None:
        names = [name for name, _ in values]
        bars = axes.barh(names, [value for _, value in values], color=list(colours), gid="bar")
        axes.bar_label(bars, fmt="%.3g", padding=4, color=MUTED)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    return _svg(heading, (460, 40 + 19 * len(values)), paint)


def _percent(axes: Axes, which: str) -> None:
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100.0 * value:.4g}%"))
        axis.set_minor_formatter(NullFormatter())


def _svg(heading: str, size: tuple[int, int], paint: Callable[[Axes], None]) -> str:
    return draw_figure(heading, size, paint, "svg").decode()


def draw_figure(
    heading: str, size: tuple[int, int], paint: Callable[[Axes], None], form: Form
) -> bytes:
    """An SVG or PNG of this width and height in points, filled by `paint`."""
    with rc_context(_STYLE):
        width, height = size
        figure = Figure((width / _POINTS_AN_INCH, height / _POINTS_AN_INCH), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_title(heading)
        paint(axes)
        buffer = io.BytesIO()
        metadata = _NO_DATE if form == "svg" else _NO_SOFTWARE
        figure.savefig(buffer, format=form, metadata=metadata, dpi=_DOTS_AN_INCH[form])
    return buffer.getvalue()
