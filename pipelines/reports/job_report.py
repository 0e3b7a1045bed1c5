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
from models.mlflow.report_runs import ReportRun, log_report
from pipelines.cli.settings import warn
from pipelines.config.config import Config
from pipelines.data.provenance import git_commit, user_name
from pipelines.registry.log_run import tracking
from pipelines.reports.report import json_bytes
from training.reports.job_pages.backtest import backtest_page
from training.reports.job_pages.drift import drift_page
from training.reports.job_pages.evaluation import evaluation_page

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
    config: Config,
    job: str,
    report: Mapping[str, Any],
    out: Path | None,
    options: Sequence[str],
    started: int,
) -> None:
    """Write the page of a job's report, and log page and JSON to MLflow; None writes nothing.

    `options` are those given beside ``--out``; the job began at `started`, in nanoseconds.


    A local store is used only where its database exists: nobody who does not use MLflow gets one,
    and a line says so. Where logging fails, a warning names what was not logged; the page stays.
    """
    if out is None:
        return
    command = ["margincast", job, *options, "--out", str(out)]
    facts = {
        "Configuration, SHA-256": config.sha256(),
        "Generated": format_time(time.time_ns() // 10**9 * 10**9),
        "To make it again": shlex.join(command),
    }
    page = _PAGES[job](redact_all(report), facts).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, page)
    files = {f"{job}.html": page, f"{job}.json": json_bytes(report)}
    names = " and ".join(files)
    store = tracking(config)
    url = make_url(store.uri)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        warn(f"{out} is written; {names} are not logged, as {store.address} does not exist yet")
        return
    hashes = {
        "data_sha256": report.get("data_sha256"),
        "ruleset_sha256": report.get("ruleset", {}).get("sha256"),
        "config_sha256": config.sha256(),
    }
    run = ReportRun(
        job=job,
        bundle=report["bundle"],
        files=files,
        started=started,
        user=user_name(),
        source=f"margincast {job}",
        commit=git_commit(),
        tags={name: value for name, value in hashes.items() if value},
    )
    try:
        log_report(store, run)
    except ModelError as error:
        warn(f"warning: {out} is written, but {names} are not logged: {error}")
