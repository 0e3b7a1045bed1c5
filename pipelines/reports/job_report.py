"""Pages of ``drift``, ``evaluate`` and ``backtest``: written to disk, then logged to MLflow."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from market.core.clock import format_time
from market.core.errors import ConfigError, ModelError
from market.core.files import replace_file
from market.core.redaction import redact_all
from models.mlflow.report_runs import log_report
from models.mlflow.store import Tracking
from pipelines.cli.settings import warn
from pipelines.config.config import Config
from pipelines.reports.report import json_bytes
from training.reports.job_page import backtest_page, drift_page, evaluation_page

_PAGES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, str]], str]] = {
    "drift": drift_page,
    "evaluate": evaluation_page,
    "backtest": backtest_page,
}


def check_page_path(out: Path | None) -> None:
    """Refuse a page that is not ``.html`` before the job runs.

    Raises
    ------
    ConfigError
        Its name ends otherwise.
    """
    if out is not None and out.suffix != ".html":
        raise ConfigError(f"--out {out} is not an .html file; name a page, as in report.html")


def write_job_page(
    config: Config, job: str, report: Mapping[str, Any], out: Path | None, options: Sequence[str]
) -> None:
    """Write the page of a job's report, and log page and JSON to MLflow; None writes nothing.

    A local store is used only where its database exists: nobody who does not use MLflow gets one.
    Where logging fails, a warning names what was not logged, and the page stays.
    """
    if out is None:
        return
    shown = redact_all(report)
    facts = {
        "Configuration, SHA-256": config.sha256(),
        "Generated": format_time(time.time_ns() // 10**9 * 10**9),
        "To make it again": shlex.join(["margincast", job, *options, "--out", str(out)]),
    }
    page = _PAGES[job](shown, facts).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, page)
    tracking = Tracking(config.tracking.uri, config.tracking.experiment, config.tracking.model)
    url = make_url(tracking.uri)
    if url.drivername.startswith("sqlite") and not Path(str(url.database)).exists():
        return
    files = {f"{job}.html": page, f"{job}.json": json_bytes(report)}
    try:
        log_report(tracking, job, report["bundle"], files)
    except ModelError as error:
        warn(f"warning: {out} is written, but {job}.html and {job}.json are not logged: {error}")
