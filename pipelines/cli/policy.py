"""Verb: policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.extras import require
from pipelines.cli.options import BundlePath, ConfigFile, JsonFile
from pipelines.cli.settings import load_config


def policy(
    bundle: BundlePath,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the rule set with the chosen p* here, a .toml file."),
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Choose p* by what collateral, calls and uncovered loss cost (\\[policy]), and write it."""
    require("training", "policy")
    from pipelines.jobs.fits.policy import choose_policy
    from pipelines.reports.policy_report import policy_tables
    from pipelines.reports.report import bars_line, write_json

    report = choose_policy(load_config(config), bundle, out)
    write_json(report, json)
    bars_line(report["bars"])
    policy_tables(report)
