"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from market.core.errors import ConfigError


def _json_target(path: Path | None) -> Path | None:
    """Leave stdout to the JSON where it is asked for there."""
    from pipelines.reports.report import STDOUT, console

    console.quiet = path == STDOUT
    return path


ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration; default margincast.toml.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the result here as JSON; - writes it to stdout, and nothing else there.",
        callback=_json_target,
    ),
]
PageFile = Annotated[
    Path | None,
    typer.Option("--out", help="Write an .html page here; logged to MLflow where it is in use."),
]
BundlePath = Annotated[
    Path, typer.Option("--bundle", help="A bundle folder or the pointer file champion.")
]
AccountFiles = Annotated[
    Path, typer.Option("--accounts", help="Folder of account files, .parquet or .csv.")
]
Cases = Annotated[Path, typer.Option("--cases", help="Cases, one JSON object a line.")]
Results = Annotated[Path, typer.Option("--out", help="Results, one JSON object a line.")]


def options_given(**options: Path | bool | None) -> list[str]:
    """The options that were given, as on the command line."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value:
            words += [f"--{name}", str(value)]
    return words


def reasons_by_gate(accepted: Iterable[str]) -> dict[str, str]:
    """The values of ``--accept GATE=REASON`` as reasons by gate.

    Raises
    ------
    ConfigError
        One of them has no gate or no reason, or a gate is given twice.
    """
    reasons: dict[str, str] = {}
    for text in accepted:
        gate, _, reason = (part.strip() for part in text.partition("="))
        if not gate or not reason:
            raise ConfigError(
                f"--accept {text!r} is not GATE=REASON; give the gate and why its failure is "
                "accepted, as in --accept 'stress_8h=one window of seven days, reviewed'"
            )
        if gate in reasons:
            raise ConfigError(f"--accept names gate {gate!r} twice; give one reason")
        reasons[gate] = reason
    return reasons
