"""Charts of a training for its review page, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from market.core.errors import ModelError
from models.trees.contributions import PRIOR
from training.reports.svg import FRAME, INK, MUTED, Drawing, Scale

MODEL = "margincast"
MODEL_COLOUR, RIVAL_COLOUR = "#1f5fa8", "#b45309"
GOOD, BAD = "#2f7d4f", "#b42318"
POLICY_COLOURS = {
    MODEL: MODEL_COLOUR,
    "none": "#7b8794",
    "flat_buffer": "#b45309",
    "vol_scaled": "#2f7d4f",
    "emir_buffer": "#7d5ba6",
    "volatility_oracle": "#9aa5b1",
}

_MOST_BARS = 14
_TURN_LABELS = 7


def review_charts(
    evaluation: Mapping[str, Any],
    review: Mapping[str, Any] | None = None,
    backtest: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Every chart that the figures at hand allow, by name.

    ``reliability_{h}h``, ``precision_recall_{h}h``, ``months_{h}h``, ``contributions_{h}h`` (of
    the trees, which the prior would dwarf) and ``frontier``.
    """
    found: dict[str, str] = {}
    for hours, horizon in evaluation["horizons"].items():
        found[f"reliability_{hours}h"] = reliability_chart(hours, horizon["reliability"])
        curves = {name: c for name, c in horizon.get("precision_recall", {}).items() if c}
        if curves:
            found[f"precision_recall_{hours}h"] = precision_recall_chart(
                hours, curves, horizon["base_rate"]
            )
        if horizon.get("months"):
            found[f"months_{hours}h"] = skill_chart(f"{hours} h", horizon["months"])
    contributions = (review or {}).get("contributions") or {}
    for hours, kinds in contributions.items():
        corrections = {name: v for name, v in kinds["features"].items() if name != PRIOR}
        if corrections:
            found[f"contributions_{hours}h"] = bars_chart(f"{hours} h", corrections)
    if backtest is not None and backtest.get("frontier"):
        found["frontier"] = frontier_chart(backtest)
    return found


def reliability_chart(hours: str, reliability: Mapping[str, Any]) -> str:
    """Observed share against mean forecast of each bin, log-log, with its 95% interval.

    A bin without events has no place on a logarithmic axis: it is a hollow point on the lower
    edge. Bins forecast at exactly 0 are left out.

    Raises
    ------
    ModelError
        No bin can be drawn.
    """
    bins = [
        dict(zip(("p", "y", "low", "high"), values, strict=True))
        for values in zip(
            *(
                reliability.get(key, [None] * len(reliability["predicted"]))
                for key in ("predicted", "observed", "low", "high")
            ),
            strict=True,
        )
        if values[0] > 0.0
    ]
    if not bins:
        raise ModelError(f"reliability of {hours} h has no bin to draw; evaluate it on more rows")
    shown = [b["p"] for b in bins] + [b["y"] for b in bins if b["y"] > 0.0]
    low, high = max(1e-6, 0.5 * min(shown)), min(1.0, 1.8 * max(shown))
    drawing = Drawing(
        f"Reliability at {hours} h: observed share against forecast", height=300, left=66
    )
    x, y = drawing.x_scale(low, high, "log"), drawing.y_scale(low, high, "log")
    drawing.heading(f"{hours} h")
    drawing.axes(x, y, x_label="forecast probability", y_label="observed share", x_percent=True,
                 y_percent=True)  # fmt: skip
    drawing.line((x(low), y(low)), (x(high), y(high)), MUTED, dash="4 3")
    for b in bins:
        at = x(b["p"])
        if b["low"] is not None:
            drawing.whisker(at, y(b["low"]), y(b["high"]), MODEL_COLOUR)
        hint = f"forecast {b['p']:.3%}, observed {b['y']:.3%}"
        drawing.dot((at, y(b["y"])), MODEL_COLOUR, hollow=b["y"] <= 0.0, hint=hint)
    return drawing.svg()


def precision_recall_chart(
    hours: str, curves: Mapping[str, Sequence[Sequence[float]]], base_rate: float
) -> str:
    """Precision against recall of the model and of its best rival; the base rate is dotted."""
    drawing = Drawing(f"Precision against recall at {hours} h", height=300)
    x, y = drawing.x_scale(0.0, 1.0), drawing.y_scale(0.0, 1.0)
    drawing.heading(f"{hours} h")
    drawing.axes(x, y, x_label="recall (share of calls found)", y_label="precision",
                 x_percent=True, y_percent=True)  # fmt: skip
    drawing.line((x(0.0), y(base_rate)), (x(1.0), y(base_rate)), MUTED, dash="2 3")
    # The rival first, so that the model lies on top.
    ordered = sorted(curves, key=lambda name: name == MODEL)
    for name in ordered:
        ours = name == MODEL
        points = [(x(recall), y(precision)) for recall, precision in curves[name]]
        drawing.path(points, MODEL_COLOUR if ours else RIVAL_COLOUR, dash="" if ours else "5 3")
    _legend(drawing, [(n, MODEL_COLOUR if n == MODEL else RIVAL_COLOUR) for n in reversed(ordered)])
    return drawing.svg()


def skill_chart(heading: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Log-loss skill of each group with its 95% interval, above or below the zero line.

    Intervals beyond four times the largest skill (at least ten per cent) are cut at the edge.
    """
    skills = [float(g["log_loss_skill"]) for g in groups.values()]
    reach = max(0.1, 4.0 * max(abs(value) for value in skills))
    ends = [0.0, *skills]
    for group in groups.values():
        ends += [min(max(end, -reach), reach) for end in group["log_loss_skill_ci95"] or ()]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.01
    turned = len(groups) > _TURN_LABELS
    drawing = Drawing(f"Log-loss skill by group, {heading}", bottom=58 if turned else 30, left=58)
    y = drawing.y_scale(low - room, high + room)
    drawing.heading(heading)
    drawing.axes(None, y, y_label="log-loss skill", y_percent=True)
    drawing.line((drawing.left, y(0.0)), (drawing.width - drawing.right, y(0.0)), INK, width=1.2)
    step = (drawing.width - drawing.left - drawing.right) / len(groups)
    bottom = drawing.height - drawing.bottom
    for i, (name, group) in enumerate(groups.items()):
        at = drawing.left + (i + 0.5) * step
        skill, interval = float(group["log_loss_skill"]), group["log_loss_skill_ci95"]
        colour = GOOD if skill >= 0.0 else BAD
        if interval is not None:
            drawing.whisker(at, y(interval[0]), y(interval[1]), colour)
        drawing.dot((at, y(skill)), colour, hint=f"{name}: {skill:+.2%}")
        if turned:
            drawing.text(at + 4, bottom + 12, name, anchor="end", colour=MUTED, turn=-55)
        else:
            drawing.text(at, bottom + 16, name, anchor="middle", colour=MUTED)
    return drawing.svg()


def bars_chart(heading: str, values: Mapping[str, float]) -> str:
    """Lying bars from the largest down; the smallest beyond fourteen are summed up."""
    ranked = sorted(values.items(), key=lambda item: -item[1])
    shown = ranked[:_MOST_BARS]
    rest = ranked[_MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others, together", sum(value for _, value in rest)))
    longest = max(len(name) for name, _ in shown)
    left = min(240, 16 + round(5.9 * longest))
    drawing = Drawing(
        f"Spread of contributions, {heading}",
        width=460,
        height=34 + 19 * len(shown),
        left=left,
        right=54,
        top=26,
        bottom=8,
    )
    x = Scale(0.0, max(value for _, value in shown) or 1.0, left, drawing.width - drawing.right)
    drawing.heading(heading)
    for i, (name, value) in enumerate(shown):
        top = drawing.top + 19 * i
        drawing.text(left - 6, top + 12, name, anchor="end", colour=INK)
        drawing.bar(left, top + 2, x(value) - left, 13, MODEL_COLOUR if i < _MOST_BARS else FRAME)
        drawing.text(x(value) + 5, top + 12, f"{value:.3g}", colour=MUTED)
    return drawing.svg()


def frontier_chart(backtest: Mapping[str, Any]) -> str:
    """Shortfall of each policy against the average margin it asks for; the budget is dashed."""
    frontier = {
        name: sorted((float(a), float(b)) for a, b in points)
        for name, points in backtest["frontier"].items()
        if points
    }
    margins = [margin for points in frontier.values() for margin, _ in points]
    losses = [loss for points in frontier.values() for _, loss in points]
    drawing = Drawing(
        "Shortfall against average margin, by policy", width=720, height=340, left=64, right=150
    )
    spread = (max(margins) - min(margins)) or abs(max(margins)) or 1.0
    x = drawing.x_scale(min(margins) - 0.03 * spread, max(margins) + 0.03 * spread)
    y = drawing.y_scale(0.0, 1.06 * max(losses) or 1.0)
    drawing.axes(x, y, x_label="average margin (settlement currency)",
                 y_label="shortfall (settlement currency)")  # fmt: skip
    budget = backtest.get("budget")
    if budget is not None and x.low <= budget <= x.high:
        bottom = drawing.height - drawing.bottom
        drawing.line((x(budget), drawing.top), (x(budget), bottom), INK, dash="3 3")
        drawing.text(x(budget), drawing.top - 8, "budget", anchor="middle", colour=INK)
    entries: list[tuple[str, str]] = []
    for name, points in sorted(frontier.items(), key=lambda item: item[0] == MODEL):
        colour = POLICY_COLOURS.get(name, INK)
        drawing.path(
            [(x(margin), y(loss)) for margin, loss in points],
            colour,
            width=2.6 if name == MODEL else 1.5,
            dash="5 3" if name == "volatility_oracle" else "",
        )
        for margin, loss in points:
            hint = f"{name}: margin {margin:.4g}, shortfall {loss:.4g}"
            drawing.dot((x(margin), y(loss)), colour, hint=hint)
        entries.insert(0, (name, colour))
    _legend(drawing, entries, outside=True)
    return drawing.svg()


def _legend(drawing: Drawing, entries: Sequence[tuple[str, str]], *, outside: bool = False) -> None:
    """Names beside short strokes, on white: in the upper right corner or right of the axes."""
    right = drawing.width - drawing.right
    longest = max(len(name) for name, _ in entries)
    x = right + 12.0 if outside else right - 30.0 - 6.0 * longest
    y = drawing.top + 10.0
    if not outside:
        width = right - x + 6.0
        drawing.bar(x - 6.0, drawing.top + 1.0, width, 15.0 * len(entries) + 4.0, "#ffffff")
    for i, (name, colour) in enumerate(entries):
        at = y + 15.0 * i
        drawing.line((x, at), (x + 16.0, at), colour, width=2.4)
        drawing.text(x + 21.0, at + 4.0, name)
