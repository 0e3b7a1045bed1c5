"""Version, colours and shell completion."""

from __future__ import annotations

import importlib.metadata
import os
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


def set_colours() -> None:
    """Print no escape sequences with ``NO_COLOR`` (https://no-color.org), and none at the end of a
    verb that printed plain text."""
    # numba would initialise colorama, which resets the terminal at exit.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    if os.environ.get("NO_COLOR"):
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None  # rich alone would leave bold and dim text in help


def complete_ruleset(incomplete: str) -> Iterator[str]:
    """Names of presets that begin with what was typed."""
    for entry in sorted(_PRESETS.iterdir(), key=lambda one: one.name):
        name = entry.name.removesuffix(".toml")
        if name != entry.name and name.startswith(incomplete):
            yield name
