"""Verbs of rule sets: list them, make depth figures, import dated versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.options import ConfigFile, JsonFile
from pipelines.cli.settings import load_config
from pipelines.cli.usage.shell import complete_ruleset

rulesets_app = typer.Typer(help="Rule sets: presets and dated versions.", no_args_is_help=True)


@rulesets_app.command("list")
def rulesets_list(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of dated versions; default the presets.")
    ] = None,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """List the presets, or the versions in a folder."""
    from margin.rules.history import load_history
    from margin.rules.ruleset import list_rulesets, load_ruleset
    from pipelines.reports.report import new_table, print_table, write_json

    load_config(config)
    if folder is None:
        rulesets = {name: load_ruleset(name) for name in list_rulesets()}
    else:
        rulesets = {rules.version: rules for rules in load_history(folder).versions}
    listed: dict[str, dict[str, Any]] = {
        name: {
            "version": rules.version,
            "engine": rules.engine,
            "effective_from": rules.effective_from,
            "effective_to": rules.effective_to,
            "sha256": rules.sha256,
            "floors": list(rules.floors.enabled()),
        }
        for name, rules in rulesets.items()
    }
    write_json(listed, json)
    title = "rule sets" if folder is None else f"versions in {folder}"
    table = new_table(
        f"{title}; --json has all", ("name", "version", "engine", "in force from"), ()
    )
    for name, facts in listed.items():
        table.add_row(name, facts["version"], facts["engine"], facts["effective_from"] or "always")
    print_table(table)


@rulesets_app.command("depth")
def rulesets_depth(
    source: Annotated[Path, typer.Argument(help="Parquet file or folder of quoted depth.")],
    out: Annotated[Path, typer.Option("--out", help="TOML file to write.")],
    quantile: Annotated[
        float, typer.Option("--quantile", help="Share of the books that are no dearer.")
    ] = 0.95,
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Make the depth figures of a rule set from quoted spreads and slippages."""
    from pipelines.reports.report import facts, write_json
    from pipelines.rulesets.depth import write_depth

    load_config(config)
    report = write_depth(source, out, quantile)
    books = {coin: curve["books"] for coin, curve in report["coins"].items()}
    shown = {key: value for key, value in report.items() if key not in ("coins", "others")}
    facts("depth figures", shown | {"books": books, "out": str(out)})
    write_json(report, json)


@rulesets_app.command("import")
def rulesets_import(
    source: Annotated[Path, typer.Argument(help="Parquet file: a record of brackets.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the versions to write.")],
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="Rule set that gives all that the record does not list.",
            autocompletion=complete_ruleset,
        ),
    ] = "binance-usdm",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the rule set; default the base's.")
    ] = None,
    symbols: Annotated[
        str, typer.Option("--symbols", help="Bar symbols to keep, by comma; default all.")
    ] = "",
    config: ConfigFile = None,
    json: JsonFile = None,
) -> None:
    """Make dated versions of a rule set from a record of a venue's brackets."""
    from pipelines.reports.report import facts, write_json
    from pipelines.rulesets.rulesets_import import import_rulesets

    load_config(config)
    selected = tuple(part.strip() for part in symbols.split(",") if part.strip())
    report = import_rulesets(source, out, base=base, name=name, symbols=selected)
    facts("imported rule sets", _summary(report) | {"out": str(out)})
    for table in report["bad"]:
        typer.echo(
            f"margincast: left as before: {table['symbol']} at {table['ts']} "
            f"({table['rows']} rows): {table['reason']}",
            err=True,
        )
    write_json(report, json)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    versions = report["versions"]
    return {
        "source": report["source"],
        "sha256": report["sha256"],
        "rule set": report["name"],
        "base": f"{report['base']['name']} {report['base']['version']}",
        "rows": report["rows"],
        "left out": {
            reason: f"{sum(names.values())} rows of {', '.join(names)}"
            for reason, names in report["left_out"].items()
        },
        "bad tables": len(report["bad"]),
        "versions": len(versions),
        "in force": f"{versions[0]['effective_from']} to {versions[-1]['effective_to'] or 'open'}",
        "symbols": versions[-1]["symbols"],
        "written": report["written"],
    }
