"""Charts of the results on real prices, from the tables of ``docs/results.md``.

That page is written by `research.pages.results` from the jobs' JSON and is committed, so a chart
shows the figures that the page shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from research.pages.pictures.svg import Canvas

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "results.md"

POLICIES = {
    "flat": "flat: a multiple of maintenance margin",
    "sigma_ewma_volatility_72h": "volatility, best simple estimate",
    "margincast": "Margincast",
    "volatility_oracle": "oracle: knows the volatility to come",
}
MODELS = {
    "margin_ratio": "margin ratio",
    "first_passage_isotonic": "first passage, recalibrated",
    "margincast": "Margincast",
}
_INTERVAL = r"([+-]?[\d.]+)%? \[([+-]?[\d.]+)%?, ([+-]?[\d.]+)%?\]"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def uncovered_losses(page: str) -> dict[str, dict[str, Interval]]:
    """Uncovered loss over that of the flat add-on, by coverage of the budget and policy."""
    found = {}
    for coverage, table in re.findall(
        r"at which a flat level covers (\d+%):\n\n(.*?)\n\n", page, re.DOTALL
    ):
        rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines()}
        found[coverage] = {name: _interval(rows[name][3]) for name in POLICIES}
    return found


def skills(page: str) -> dict[str, dict[str, Interval]]:
    """Log-loss skill in walk-forward against the best baseline, per cent, by model and horizon."""
    (table,) = re.findall(r"\n\| model \| 1 h: calls.*?\n\n", page, re.DOTALL)
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines()}
    horizons = ("1 h", "8 h", "24 h")
    return {
        name: {h: _interval(cell) for h, cell in zip(horizons, rows[name][1:], strict=True)}
        for name in MODELS
    }


def uncovered_chart() -> str:
    """Bars of uncovered loss at equal average add-on, with intervals."""
    figures = uncovered_losses(RESULTS.read_text(encoding="utf-8"))
    canvas = Canvas(860, 430, "Uncovered loss at equal average add-on, relative to a flat add-on")
    canvas.text((24, 32), "Uncovered loss at equal average add-on", "start", bold=True)
    canvas.text(
        (24, 52),
        "flat add-on = 1, lower is better; 2025-04 to 2025-08, lines: 95% intervals",
        "start",
        small=True,
    )
    left, right = 325.0, 790.0
    y = 84.0
    for coverage, policies in figures.items():
        canvas.text((24, y + 6), f"budget at which flat covers {coverage}", "start", bold=True)
        y += 18
        for name, label in POLICIES.items():
            _bar(canvas, y, label, policies[name], (left, right, 1.15), name == "margincast")
            y += 21
        y += 12
    return canvas.svg()


def skill_chart() -> str:
    """Bars of log-loss skill, with intervals, of a margin ratio and of Margincast."""
    figures = skills(RESULTS.read_text(encoding="utf-8"))
    canvas = Canvas(860, 330, "Log-loss skill of the forecast in walk-forward")
    canvas.text(
        (24, 32), "Log-loss skill against the best baseline, walk-forward", "start", bold=True
    )
    canvas.text(
        (24, 52),
        "per cent, higher is better; 2022-07 to 2025-08, everything fitted to the time before",
        "start",
        small=True,
    )
    zero, unit = 700.0, 14.0
    canvas.line([(zero, 70), (zero, 315)], "thin")
    canvas.text((zero, 327), "0", small=True)
    y = 84.0
    for hours in ("1 h", "8 h", "24 h"):
        canvas.text((24, y + 6), f"call within {hours}", "start", bold=True)
        y += 16
        for name, label in MODELS.items():
            figure = figures[name][hours]
            kind = "model" if name == "margincast" else "box"
            start = min(zero, zero + figure.value * unit)
            canvas.text((44, y + 12), label, "start", small=True)
            canvas.bar((start, y), (abs(figure.value) * unit, 14), kind)
            canvas.line([(zero + figure.low * unit, y + 7), (zero + figure.high * unit, y + 7)])
            canvas.text((845, y + 12), f"{figure.value:+.1f}%", "end", small=True)
            y += 18
        y += 12
    return canvas.svg()


def _bar(
    canvas: Canvas,
    y: float,
    label: str,
    figure: Interval,
    scale: tuple[float, float, float],
    marked: bool,
) -> None:
    left, right, most = scale
    unit = (right - left) / most
    canvas.text((44, y + 12), label, "start", small=True)
    canvas.bar((left, y), (figure.value * unit, 15), "model" if marked else "box")
    if figure.low < figure.high:
        canvas.line([(left + figure.low * unit, y + 7), (left + figure.high * unit, y + 7)])
    canvas.text((845, y + 12), f"{figure.value:.2f}", "end", small=True, bold=marked)


def _interval(text: str) -> Interval:
    match = re.search(_INTERVAL, text)
    if match is None:
        raise SystemExit(f"{RESULTS}: {text!r} has no interval; run make results")
    return Interval(*map(float, match.groups()))
