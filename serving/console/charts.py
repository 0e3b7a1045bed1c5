"""Charts of pages: what the chart library draws, and the same figures as a table.

Colours are named by their role (`series-1` to `series-6`, `good`, `bad`, `muted`, `ink`, `grid`,
and the scales `diverging` and
`rising`); the page replaces the names by the colours of its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TIME = "time (UTC)"

Intervals = Mapping[str, Sequence["tuple[float, float] | None"]]
"""Ends of an interval for each point of each line, by its name; None: not known."""

SERIES = tuple(f"series-{n}" for n in range(1, 7))
"""Colours of lines in their order."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes
    ----------
    title:
        What it shows, also for readers that cannot see it.
    figure:
        ``data`` and ``layout`` of plotly.js.
    columns, rows:
        Its figures as a table.
    """

    title: str
    figure: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def line_chart(
    title: str,
    x: Sequence[Any],
    lines: Mapping[str, Sequence[float | None]],
    *,
    y_title: str = "",
    y_format: str = "",
    intervals: Intervals | None = None,
    steps: bool = False,
    log_y: bool = False,
) -> Chart:
    """Lines over time.

    Parameters
    ----------
    title:
        What it shows.
    x:
        ISO times of UTC, shape (T,).
    lines:
        Values by name, each of shape (T,); None is a gap.
    y_title:
        Title of the axis of values.
    y_format:
        Format of values, as d3-format; empty: the library's.
    intervals:
        Ends of an interval around each value, drawn as whiskers.
    steps:
        Whether a value holds until the next one: steps with a point at each.
    log_y:
        Whether the axis of values is logarithmic; those that are not above 0 are not drawn there.
    """
    shape = {"shape": "hv"} if steps else {}
    data = [
        {
            "type": "scatter",
            "mode": "lines" if intervals is None and not steps else "lines+markers",
            "name": name,
            "x": list(x),
            "y": list(values),
            "line": {"color": SERIES[n % len(SERIES)], "width": 2, **shape},
            "marker": {"size": 5, "color": SERIES[n % len(SERIES)]},
            **_whiskers(values, (intervals or {}).get(name)),
        }
        for n, (name, values) in enumerate(lines.items())
    ]
    rows = [
        (place, *(cell for name in lines for cell in _cells(lines[name], intervals, name, i)))
        for i, place in enumerate(x)
    ]
    columns = [
        column
        for name in lines
        for column in (name, *(() if intervals is None else (f"{name}: from", "to")))
    ]
    scale: dict[str, Any] = {"type": "log", "dtick": 1} if log_y else {}
    values_axis = {"title": {"text": y_title}, "tickformat": y_format, "hoverformat": y_format}
    layout = {
        "xaxis": {"title": {"text": _TIME}},
        "yaxis": values_axis | scale,
        "showlegend": len(lines) > 1,
        "hovermode": "x unified",
    }
    return Chart(title, {"data": data, "layout": layout}, (_TIME, *columns), rows)


def xy_chart(
    title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    formats: tuple[str, str] = ("", ""),
    intervals: Intervals | None = None,
) -> Chart:
    """Lines with points of their own on two axes of numbers.

    Parameters
    ----------
    title:
        What it shows.
    lines:
        Pairs of x and y by name.
    x_title, y_title:
        Titles of the axes.
    log_x, log_y:
        Whether an axis is logarithmic; values that are not above 0 are not drawn there.
    formats:
        Of x and y, as d3-format; empty: the library's.
    intervals:
        Ends of an interval around the y of each point, drawn as whiskers.
    """
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [x for x, _ in points],
            "y": [y for _, y in points],
            "line": {"color": SERIES[n % len(SERIES)], "width": 2},
            "marker": {"size": 6, "color": SERIES[n % len(SERIES)]},
            **_whiskers([y for _, y in points], (intervals or {}).get(name)),
        }
        for n, (name, points) in enumerate(lines.items())
    ]

    def axis(name: str, log: bool, form: str) -> dict[str, Any]:
        kind = {"type": "log", "exponentformat": "power", "dtick": 1} if log else {}
        return {"title": {"text": name}, "tickformat": form, **kind}

    layout = {
        "xaxis": axis(x_title, log_x, formats[0]),
        "yaxis": axis(y_title, log_y, formats[1]),
        "showlegend": len(lines) > 1,
    }
    rows = [
        (name, x, *_cells([y for _, y in points], intervals, name, i))
        for name, points in lines.items()
        for i, (x, _) in enumerate(points)
    ]
    columns = ("", x_title, y_title, *(() if intervals is None else ("from", "to")))
    return Chart(title, {"data": data, "layout": layout}, columns, rows)


def _whiskers(
    values: Sequence[float | None], ends: Sequence[tuple[float, float] | None] | None
) -> dict[str, Any]:
    if ends is None:
        return {}
    known = [
        None if value is None or end is None else (end[1] - value, value - end[0])
        for value, end in zip(values, ends, strict=True)
    ]
    return {
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [None if one is None else one[0] for one in known],
            "arrayminus": [None if one is None else one[1] for one in known],
            "thickness": 1,
            "width": 4,
        }
    }


def _cells(
    values: Sequence[float | None], intervals: Intervals | None, name: str, i: int
) -> tuple[float | None, ...]:
    """A value and, where there are intervals, its ends."""
    if intervals is None:
        return (values[i],)
    ends = intervals[name][i] if name in intervals else None
    return (values[i], *(ends or (None, None)))


def bar_chart(
    title: str,
    names: Sequence[str],
    values: Sequence[float | None],
    *,
    y_title: str = "",
    colors: Sequence[str] | None = None,
    horizontal: bool = False,
) -> Chart:
    """A bar for each name; `colors` by their role, see above."""
    along, across = ("y", "x") if horizontal else ("x", "y")
    bars = {
        "type": "bar",
        "orientation": "h" if horizontal else "v",
        along: list(names),
        across: list(values),
        "marker": {"color": list(colors or [SERIES[0]] * len(names))},
    }
    layout: dict[str, Any] = {f"{across}axis": {"title": {"text": y_title}}, "showlegend": False}
    if horizontal:
        layout["yaxis"] = {"autorange": "reversed"}
    rows = list(zip(names, values, strict=True))
    return Chart(title, {"data": [bars], "layout": layout}, ("", y_title or "value"), rows)


def waterfall_chart(
    title: str, parts: Sequence[tuple[str, float]], total: str, *, y_title: str = ""
) -> Chart:
    """Parts that add up to a total, one after another."""
    names = [name for name, _ in parts]
    values = [value for _, value in parts]
    whole = sum(values)
    steps = {
        "type": "waterfall",
        "x": [*names, total],
        "y": [*values, whole],
        "measure": ["relative"] * len(parts) + ["total"],
        "increasing": {"marker": {"color": "series-1"}},
        "decreasing": {"marker": {"color": "good"}},
        "totals": {"marker": {"color": "series-2"}},
        "connector": {"line": {"color": "muted", "width": 1}},
    }
    layout = {"yaxis": {"title": {"text": y_title}}, "showlegend": False}
    rows: list[tuple[Any, ...]] = [*parts, (total, whole)]
    return Chart(title, {"data": [steps], "layout": layout}, ("part", y_title or "value"), rows)


def heat_map(
    title: str,
    x: Sequence[Any],
    y: Sequence[Any],
    z: Sequence[Sequence[float | None]],
    *,
    x_title: str = "",
    y_title: str = "",
    bounds: tuple[float, float] | None = None,
    z_format: str = "",
) -> Chart:
    """Values on a grid, each written into its cell where the page is wide enough.

    Parameters
    ----------
    title:
        What it shows.
    x, y:
        Places of columns and rows, shapes (C,) and (R,).
    z:
        Values, shape (R, C); None is a gap.
    x_title, y_title:
        Titles of the axes.
    bounds:
        Values at the ends of the colour scale; None: the smallest and the largest. Colours part
        at the middle of bounds that begin below 0, and else go from little to much.
    z_format:
        Format of values, as d3-format.
    """
    cells: dict[str, Any] = {
        "type": "heatmap",
        "x": [str(place) for place in x],
        "y": [str(place) for place in y],
        "z": [list(row) for row in z],
        "colorscale": "diverging" if bounds is not None and bounds[0] < 0.0 else "rising",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
    }
    if z_format:
        cells["texttemplate"] = f"%{{z:{z_format}}}"
        cells["hovertemplate"] = f"%{{x}}, %{{y}}: %{{z:{z_format}}}<extra></extra>"
    if bounds is not None:
        cells |= {"zmin": bounds[0], "zmax": bounds[1]}
    layout = {
        "xaxis": {"title": {"text": x_title}, "type": "category"},
        "yaxis": {"title": {"text": y_title}, "type": "category"},
    }
    rows = [(place, *row) for place, row in zip(y, z, strict=True)]
    return Chart(title, {"data": [cells], "layout": layout}, (y_title, *map(str, x)), rows)
