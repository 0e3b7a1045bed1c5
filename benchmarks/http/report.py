"""The results as JSON and as a table that people read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.http.contenders import BENTOML, MARGINCAST, MLFLOW

_COLUMNS = ("rps", "p50_ms", "p99_ms", "cpu_ms")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write the results; figures keep four significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(content), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Every float with four significant digits, NaN as null, at any depth."""
    if isinstance(value, float):
        return None if value != value else float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return value


def ratios(loops: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Answers a second of Margincast over those of each peer, by number of connections."""
    return {
        f"margincast_over_{peer}_{number}": figures["rps"] / loops[peer][number]["rps"]
        for peer in (MLFLOW, BENTOML)
        if peer in loops
        for number, figures in loops[MARGINCAST].items()
    }


def table(loops: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Contenders side by side, a line for each number of connections.

    Beside each peer stand the answers a second of Margincast over those of the peer.
    """
    of = ratios(loops)
    names = list(loops)
    head = f"{'connections':>11}  " + "  ".join(f"{name:^44}" for name in names)
    units = " " * 13 + "  ".join(
        f"{'a second':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>8}{'ratio':>9}" for _ in names
    )
    lines = [head.rstrip(), units.rstrip()]
    for number in loops[names[0]]:
        cells = []
        for name in names:
            rps, p50, p99, cpu = (loops[name][number][column] for column in _COLUMNS)
            ratio = of.get(f"margincast_over_{name}_{number}")
            shown = "" if ratio is None else f"{ratio:.3g}"
            cells.append(f"{rps:>9.0f}{p50:>9.2f}{p99:>9.2f}{cpu:>8.3f}{shown:>9}")
        lines.append((f"{number:>11}  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def lines(name: str, figures: Mapping[str, Any]) -> list[str]:
    """The figures of a scenario, one a line, with the keys that lead to them."""
    found = []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found += lines(f"{name}.{key}", value)
        else:
            found.append(f"  {f'{name}.{key}':<58} {value:>12.4g}")
    return found
