"""Layout of the pages of jobs: sections of charts and tables, made from an object of ``--json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.reports.html_page import DASH, data_uri, number, render_page

TEMPLATE = "report.html"

_Pair = Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture as a data address, and what it shows; a broad one has a row of its own."""

    uri: str
    alt: str
    broad: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column heads its row."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Fold:
    """What a reader opens to see."""

    summary: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page."""

    name: str
    title: str
    text: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    folds: tuple[Fold, ...] = ()
    wide: bool = False


def job_page(
    title: str,
    report: Mapping[str, Any],
    facts: Mapping[str, str],
    verdict: tuple[str, str, list[str]],
    sections: list[Section],
) -> str:
    tone, headline, reasons = verdict
    data, warnings = report.get("data") or {}, list(report.get("warnings") or ())
    if data.get("prices") == "simulated":
        warnings.insert(
            0, "Prices are simulated: no figure on this page says anything about a real market."
        )
    ruleset = report.get("ruleset")
    origin = {"Bundle, SHA-256": report["bundle"]}
    if ruleset:
        origin["Rule set"] = f"{ruleset['name']} {ruleset['version']}, SHA-256 {ruleset['sha256']}"
    if "data_sha256" in report:
        origin["Data, SHA-256"] = report["data_sha256"]
    origin |= {f"Data, {words(key)}": str(value) for key, value in data.items()}
    return render_page(
        TEMPLATE,
        title=title,
        bundle=report["bundle"],
        tone=tone,
        headline=headline,
        reasons=reasons,
        warnings=warnings,
        sections=sections,
        facts=origin | dict(facts),
    )


def named_charts(
    charts: Mapping[str, str], begin: str, alt: str, *, broad: bool = False
) -> tuple[Chart, ...]:
    return tuple(
        chart(svg, ", ".join(filter(None, (alt, name.removeprefix(begin)))), broad=broad)
        for name, svg in charts.items()
        if name.startswith(begin)
    )


def chart(svg: str, alt: str, *, broad: bool = False) -> Chart:
    return Chart(data_uri(svg), alt, broad)


def words(name: str) -> str:
    return name.replace("_", " ")


def signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2%}"


def signed_range(pair: _Pair) -> str:
    return DASH if pair is None else f"{pair[0]:+.2%} to {pair[1]:+.2%}"


def interval(pair: _Pair) -> str:
    return DASH if pair is None else f"{number(pair[0])} to {number(pair[1])}"
