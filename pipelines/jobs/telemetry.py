"""Logs, metrics and traces of a process, as the configuration says."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.cli.extras import require
from pipelines.config.config import Config
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.logs.records import LogSettings, configure_logs, log_uncaught_errors
from serving.telemetry.metrics.metrics import MetricsFolder
from serving.telemetry.telemetry import Telemetry
from serving.telemetry.tracing.spans import Tracing

_IN_MEMORY = Path("/dev/shm")  # noqa: S108  a file system in memory, where the system has one


def start_telemetry(config: Config, folder: MetricsFolder | None = None) -> Telemetry:
    """Configure logs, metrics and traces of an endpoint's process; a thread writes its log.

    Parameters
    ----------
    config:
        The configuration.
    folder:
        Where this process keeps its metrics if it is one of several workers.

    Raises
    ------
    MissingExtraError
        Tracing is enabled and the extra ``otel`` is not installed.
    """
    worker = None if folder is None else folder.worker
    settings = LogSettings(config.logging.format, config.logging.level, worker)
    writer = LineWriter()
    configure_logs(settings, writer)
    log_uncaught_errors()
    wanted = config.logging.level in ("debug", "info")
    return Telemetry(
        folder=folder,
        writer=writer,
        access_log=AccessLog(writer, settings) if wanted else None,
        tracing=_tracing(config, worker),
        heads=config.ledger.heads_dir,
    )


def _tracing(config: Config, worker: int | None) -> Tracing | None:
    if not config.tracing.enabled:
        return None
    require("otel", "[tracing] enabled")
    from serving.telemetry.tracing.otel import otlp_tracing

    return otlp_tracing(config.tracing.sample, worker)


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A folder for the metrics of workers, in memory where there is a file system of that kind:
    a full disk must not end a worker that counts."""
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="margincast-metrics-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
