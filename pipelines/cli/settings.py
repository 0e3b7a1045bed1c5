"""The configuration of a verb, and its log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipelines.config.config import Config

_LOG = logging.getLogger("margincast.cli")
_RECORDS = f"{(__package__ or '').removesuffix('pipelines.cli')}serving.telemetry.logs.records"
"""The module's name, which is another in the wheel."""


def load_config(path: Path | None = None) -> Config:
    """Read the configuration, see `pipelines.config.config.load_config`, log as it says, and say
    when kernels are compiled, see `pipelines.cli.usage.compilation`."""
    # Here and below, as they take longer to import than a help text takes to print.
    from pipelines.config.config import load_config as read
    from serving.telemetry.logs.records import LogSettings, configure_logs

    config = read(path)
    configure_logs(LogSettings(config.logging.format, config.logging.level))
    if "numba" in sys.modules:  # the verb has imported a job with kernels
        from pipelines.cli.usage.compilation import announce_compilation

        announce_compilation()
    return config


def warn(text: str) -> None:
    """Print a warning on stderr, or log it where the log is JSON."""
    if not log_as_json(text, logging.WARNING):
        typer.echo(f"margincast: {text}", err=True)


def log_as_json(text: str, level: int) -> bool:
    """Log a text if the log is JSON; returns whether it is."""
    records = sys.modules.get(_RECORDS)
    if records is None or not records.writes_json():
        return False
    _LOG.log(level, "%s", text)
    return True


def say(text: str) -> None:
    """Print a text that is shown in any case, such as a new secret: on stdout, or on stderr
    where ``--json -`` has stdout to itself."""
    from pipelines.reports.report import console

    typer.echo(text, err=console.quiet)
