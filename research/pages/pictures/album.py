"""All drawn pictures by file name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from research.pages.pictures import charts, diagrams, processes

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "images"

PICTURES: Mapping[str, Callable[[], str]] = {
    "flow.svg": diagrams.flow,
    "headroom.svg": diagrams.headroom,
    "add-on.svg": diagrams.add_on,
    "level.svg": diagrams.level,
    "two-clocks.svg": diagrams.two_clocks,
    "call-life.svg": processes.call_life,
    "enforcement.svg": processes.enforcement_sequence,
    "uncovered-loss.svg": charts.uncovered_chart,
    "skill.svg": charts.skill_chart,
}


def write_pictures() -> None:
    """Write every picture into ``docs/images``."""
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
