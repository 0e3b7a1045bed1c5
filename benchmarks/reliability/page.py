"""``python -m benchmarks.reliability.page``: copy the kept figures into ``docs/reliability.md``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import RESULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_BLOCK = re.compile(r"(<!-- measured: begin -->\n).*(<!-- measured: end -->)", re.DOTALL)
_COLUMNS = {
    "acknowledged": "acknowledged",
    "lost": "lost",
    "doubled": "doubled",
    "broken_levels": "levels",
    "verify_problems": "verify",
    "calls_repeated": "calls repeated",
    "answers_503": "answers 503",
    "other_answers": "other answers",
    "resets": "resets",
}
_MINUTE = re.compile(r"minute_(\d+)_(\w+)")
_OTHERS = {
    "soak": "Soak",
    "chaos": "Enforcement with kills of the monitor",
    "million": "A million decisions",
    "size": "The ledger a decision",
}
_INPUTS = {
    "wire": "`python -m benchmarks wire`",
    "openapi": "`python -m benchmarks openapi`",
    "fuzz": "`make fuzz`",
}


def measured() -> str:
    """The section of measured figures, from the kept results."""
    parts = [_scenarios(_kept("reliability")["ratios"])]
    for name, title in _OTHERS.items():
        if (RESULTS / f"{name}.json").exists():
            parts.append(_list(title, _kept(name)))
    if inputs := [name for name in _INPUTS if (RESULTS / f"{name}.json").exists()]:
        parts.append(_inputs(inputs))
    return "\n".join(parts)


def page_with_figures(page: str) -> str:
    """The page with the section renewed."""
    return _BLOCK.sub(lambda found: found[1] + measured() + found[2], page)


def _kept(name: str) -> Mapping[str, Mapping[str, float]]:
    kept: Mapping[str, Mapping[str, float]] = json.loads((RESULTS / f"{name}.json").read_bytes())
    return kept


def _scenarios(figures: Mapping[str, float]) -> str:
    ending = "_acknowledged"
    names = sorted(name.removesuffix(ending) for name in figures if name.endswith(ending))
    lines = [f"| scenario | {' | '.join(_COLUMNS.values())} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for name in names:
        values = " | ".join(f"{figures[f'{name}_{column}']:g}" for column in _COLUMNS)
        lines.append(f"| {name.replace('_', ' ')} | {values} |")
    return "\n".join(lines) + "\n"


def _inputs(names: list[str]) -> str:
    columns = ("requests", "answers_5xx", "broken_promises")
    lines = [
        "Inputs:\n",
        "| command | settings | inputs | answers 5xx | broken promises |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        kept = _kept(name)
        values = " | ".join(f"{kept['ratios'][column]:.0f}" for column in columns)
        lines.append(f"| {_INPUTS[name]} | {_settings(kept)} | {values} |")
    return "\n".join(lines) + "\n"


def _settings(kept: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {v}" for name, v in kept["settings"].items())


def _list(title: str, kept: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{title} ({_settings(kept)}):\n", "| figure | |", "|---|---|"]
    for name, value in (*kept["ratios"].items(), *kept["medians"].items()):
        if not _MINUTE.match(name):
            lines.append(f"| {name.replace('_', ' ')} | {value:g} |")
    return "\n".join([*lines, *_minutes(kept["medians"])]) + "\n"


def _minutes(figures: Mapping[str, float]) -> list[str]:
    """A row for each minute of a run that has figures of its minutes."""
    found = [named for name in figures if (named := _MINUTE.match(name))]
    if not found:
        return []
    columns = list(dict.fromkeys(named[2] for named in found))
    lines = [
        "",
        f"| minute | {' | '.join(column.replace('_', ' ') for column in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for minute in dict.fromkeys(named[1] for named in found):
        values = " | ".join(f"{figures[f'minute_{minute}_{column}']:g}" for column in columns)
        lines.append(f"| {minute} | {values} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page_with_figures(PAGE.read_text("utf-8")), encoding="utf-8")
