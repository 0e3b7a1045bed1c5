"""Version and shell completion."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path

import typer

_DISTRIBUTION = "margincast"
_PRESETS = Path(__file__).resolve().parents[3] / "margin" / "rules" / "presets"


def show_version(value: bool) -> None:
    """Print the versions of Margincast and Python, and end."""
    if value:
        typer.echo(
            f"margincast {importlib.metadata.version(_DISTRIBUTION)} "
            f"(Python {platform.python_version()}, {platform.system()} {platform.machine()})"
        )
        raise typer.Exit


def complete_ruleset(incomplete: str) -> Iterator[str]:
    """Names of presets that begin with what was typed."""
    for entry in sorted(_PRESETS.iterdir(), key=lambda one: one.name):
        name = entry.name.removesuffix(".toml")
        if name != entry.name and name.startswith(incomplete):
            yield name
