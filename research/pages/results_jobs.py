"""The jobs on real data whose reports make the results page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = "configs/binance-hourly.toml"
SEEDS = "11"
BUNDLE = "var/real/bundles/champion"
BOOK = "var/real-book"
BOOK_TIME = "2025-08-31T12:00:00Z"
REPORTS = Path("var/real-results")
NEEDED = ("retrain", "backtest", "score")
"""Reports that the page cannot do without; the others are left out where they are missing."""


class Job(NamedTuple):
    """One command; `report` is the name of its JSON, empty for a command without one."""

    report: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """The command as a reader types it."""
        variables = [f"{name}={value}" for name, value in self.environment]
        json_out = ["--json", str(REPORTS / f"{self.report}.json")] if self.report else []
        return " ".join([*variables, *self.arguments, *json_out])


JOBS = (
    Job(
        "walk_forward",
        (
            "python",
            "-m",
            "research.experiments.walk_forward",
            CONFIG,
            "--seeds",
            SEEDS,
        ),
        (("MARGINCAST__TRAINING__MAX_ROWS", "2000000"),),
    ),
    Job("retrain", ("margincast", "retrain", "--config", CONFIG)),
    Job("evaluate", ("margincast", "evaluate", "--bundle", BUNDLE, "--config", CONFIG)),
    Job("backtest", ("margincast", "backtest", "--bundle", BUNDLE, "--config", CONFIG)),
    Job(
        "",
        ("margincast", "simulate", "--config", CONFIG, "--out", BOOK),
        (("MARGINCAST__ACCOUNTS__COUNT", "10000"),),
    ),
    Job(
        "score",
        (
            *("margincast", "score", "--config", CONFIG, "--accounts", f"{BOOK}/accounts"),
            *("--as-of", BOOK_TIME, "--out", "var/real-scored.parquet", "--record"),
        ),
    ),
)


def run_jobs(only: tuple[str, ...]) -> None:
    """Run the jobs with these reports, or all where `only` is empty, in the repository's folder.

    Raises
    ------
    SystemExit
        A command failed; its own message is above.
    """
    REPORTS.mkdir(parents=True, exist_ok=True)
    programs = Path(sys.executable).parent
    for job in JOBS:
        if only and job.report not in only:
            continue
        print(job.line, flush=True)
        json_out = ["--json", str(REPORTS / f"{job.report}.json")] if job.report else []
        program, *arguments = job.arguments
        code = subprocess.run(
            [str(programs / program), *arguments, *json_out],
            env=os.environ | dict(job.environment),
            check=False,
        ).returncode
        if code:
            raise SystemExit(f"{job.line} ended with {code}")


def read_reports() -> dict[str, dict[str, Any]]:
    """The report of each job that has run, by name.

    Raises
    ------
    SystemExit
        A job that the page cannot do without has not run.
    """
    paths = {job.report: REPORTS / f"{job.report}.json" for job in JOBS if job.report}
    for job in JOBS:
        if job.report in NEEDED and not paths[job.report].exists():
            raise SystemExit(f"{paths[job.report]} is missing; run: {job.line}")
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
