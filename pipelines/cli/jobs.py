"""Verbs: drift, schedule, lifecycle, surface, features, fit-volatility, warm-up, monitor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.extras import require
from pipelines.cli.options import AccountFiles, ConfigFile, JsonFile, PageFile, options_given
from pipelines.cli.settings import load_config

DRIFTED = 5
HISTORY_DIFFERS = 4


def drift(
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="A bundle folder or pointer file; default the champion."),
    ] = None,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Use the decisions of the ledger, not the data.")
    ] = False,
    out: PageFile = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Compare the newest accounts with a bundle's training; exit 5 if they have drifted."""
    require("training", "drift")
    from models.bundle.pointer import CHAMPION
    from pipelines.jobs.drift import check_drift
    from pipelines.reports.job_report import check_page_path, write_job_page
    from pipelines.reports.report import bars_line, drift_table, write_json
    from pipelines.scheduler.notify import run_and_notify

    check_page_path(out)
    started = time.time_ns()
    settings = load_config(config)
    path = bundle or settings.serving.bundles / CHAMPION
    report = run_and_notify(
        settings, "drift", lambda: check_drift(settings, path, recorded=recorded)
    )
    write_json(report, json)
    given = options_given(bundle=bundle, recorded=recorded, config=config)
    write_job_page(settings, "drift", report, out, given, started)
    bars_line(report["bars"])
    drift_table(report)
    if report["verdict"] == "drift":
        raise typer.Exit(DRIFTED)


def schedule(
    once: Annotated[
        bool, typer.Option("--once", help="Run what is due now, missed starts included, and end.")
    ] = False,
    upcoming: Annotated[
        int, typer.Option("--next", min=0, help="Only print so many next starts of each job.")
    ] = 0,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Run retraining, drift checks, heads and reports by cron; --once exits 1 on a failure."""
    require("training", "schedule")
    from pipelines.config.config import DEFAULT_FILE
    from pipelines.reports.report import facts, show, write_json
    from pipelines.scheduler.schedule import Scheduler, next_starts

    file = (config or DEFAULT_FILE).absolute()
    settings = load_config(config)
    if upcoming:
        show("next starts", next_starts(settings, upcoming), json)
        return
    scheduler = Scheduler(settings, file if file.exists() else None)
    if not once:
        write_json(scheduler.run_until_stopped(), json)
        return
    report = scheduler.run_due()
    facts("schedule", report["jobs"])
    write_json(report, json)
    ran = [report["jobs"][name] for name in report["ran"]]
    cut_off = any(job["running"] or job["last"] is None for job in ran)
    if cut_off or any(job["last"]["verdict"] in (None, "failed") for job in ran):
        raise typer.Exit(1)


def lifecycle(
    accounts: AccountFiles,
    begin: Annotated[str, typer.Option("--from", help="First decision time, ISO 8601 in UTC.")],
    end: Annotated[str, typer.Option("--to", help="Last decision time.")],
    replay: Annotated[
        bool, typer.Option("--replay", help="Only compare with the recorded history.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the history here, one event a line.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Replay the margin calls of a book over a span and record them; exit 4 if a record differs."""
    from pipelines.jobs.life_cycle import run_life_cycle
    from pipelines.reports.report import bars_line, facts, write_json

    report = run_life_cycle(load_config(config), accounts, begin, end, replay=replay, out=out)
    write_json(report, json)
    bars_line(report["bars_report"])
    shown = {key: value for key, value in report.items() if key not in ("bars_report", "unknown")}
    facts("life cycle", shown | {"without_figures": report["unknown"]["account_bars"]})
    if report["equal"] is False:
        raise typer.Exit(HISTORY_DIFFERS)


def surface(
    source: Annotated[
        Path, typer.Argument(help="A parquet file of option chains, or a folder of them.")
    ],
    prices_only: Annotated[
        bool,
        typer.Option("--prices-only", help="Take vols from bid and ask, not the exchange's own."),
    ] = False,
    json: JsonFile = None,
) -> None:
    """Fit the volatility surface of every snapshot, free of arbitrage, and report how it fits."""
    from pipelines.jobs.fits.surface import fit_surfaces
    from pipelines.reports.report import write_json
    from pipelines.reports.surface_report import surface_tables

    report = fit_surfaces(source, use_marks=not prices_only)
    write_json(report, json)
    surface_tables(report)


def features(
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    column: Annotated[
        list[str] | None, typer.Option("--column", help="An account feature; default all.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Default that of the newest training.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Compute features of the rows of a training's data set, which stores none."""
    require("training", "features")
    from pipelines.data.feature_file import write_features
    from pipelines.reports.report import show

    show("features", write_features(load_config(config), out, column or (), dataset), json)


def fit_volatility(
    end: Annotated[
        str, typer.Option("--end", help="End of the fitting data, ISO 8601 in UTC, in the bars.")
    ],
    out: Annotated[Path, typer.Option("--out", help="JSON file to write the coefficients to.")],
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Fit the coefficients of the volatility forecast to the bars up to a time."""
    from pipelines.jobs.fits.volatility import fit_volatility as fit
    from pipelines.reports.report import bars_line, facts, write_json

    report = fit(load_config(config), end, out)
    write_json(report, json)
    bars_line(report["bars"])
    facts("volatility forecast", {key: value for key, value in report.items() if key != "bars"})


def warm_up(config: ConfigFile = None, json: JsonFile = None) -> None:
    """Compile the kernels of the endpoint under the configured rules, e.g. in an image."""
    from pipelines.jobs.warm_up import compile_kernels
    from pipelines.reports.report import show

    show("warm-up", compile_kernels(load_config(config)), json)


def monitor(config: ConfigFile = None) -> None:
    """Evaluate the live book until a signal stops it; one process a ledger does, others wait."""
    from pipelines.jobs.monitor import monitor as job

    job(load_config(config))
