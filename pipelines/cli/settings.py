"""The configuration of a verb, and its log."""

from __future__ import annotations

import logging
from pathlib import Path

import typer

from pipelines.config.config import Config, load_config as read
from serving.telemetry.logs.records import LogSettings, configure_logs, writes_json

_LOG = logging.getLogger("margincast.cli")


def load_config(path: Path | None = None) -> Config:
    """Read the configuration, see `pipelines.config.config.load_config`, and log as it says."""
    config = read(path)
    configure_logs(LogSettings(config.logging.format, config.logging.level))
    return config


def warn(text: str) -> None:
    """Print a warning on stderr, or log it where the log is JSON."""
    if not log_as_json(text, logging.WARNING):
        typer.echo(f"margincast: {text}", err=True)


def log_as_json(text: str, level: int) -> bool:
    """Log a text if the log is JSON; returns whether it is."""
    if not writes_json():
        return False
    _LOG.log(level, "%s", text)
    return True
