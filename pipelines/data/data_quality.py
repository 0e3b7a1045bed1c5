"""Quality report of the configured data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from margin.valuation.marks import QUOTE_COIN
from market.accounts.account_files import read_accounts
from market.accounts.account_quality import check_accounts
from market.bars.quality import FAULTS
from market.core.clock import format_time
from pipelines.config.config import Config
from pipelines.data.loaders import read_history, read_rule_history
from pipelines.reports.report import console

_TIMES = 3  # of suspect bars in a line; the rest stands in the JSON


def check_data(config: Config) -> dict[str, Any]:
    """Read the bars, and the accounts if they are files, and report faults.

    Raises
    ------
    MargincastError
        The data cannot be used at all.
    """
    history = read_history(config)
    panel, outlier_filter = history.bars, history.end and history.end.outlier_filter
    bars = history.report.to_dict()
    accounts = None
    if config.accounts.path:
        span = int(panel.closes[0]), int(panel.closes[-1])
        rules = read_rule_history(config).at(span[1]).collateral
        accounts = check_accounts(
            read_accounts(config.accounts.path),
            panel.symbols,
            *span,
            lambda asset: rules.is_cash(asset) or asset == QUOTE_COIN,
        )
    files = history.report.files
    return {
        "span": [format_time(int(panel.closes[0])), format_time(int(panel.closes[-1]))],
        "interval": panel.interval.name,
        "symbols": list(panel.symbols),
        "rows": sum(file.rows for file in files),
        "faults": {fault: sum(getattr(file, fault) for file in files) for fault in FAULTS},
        "mix_ups": [asdict(pair) for pair in history.report.agreements if pair.verdict == "mix-up"],
        "suspect_now": [
            symbol
            for symbol, waits in zip(panel.symbols, history.suspect_at(-1), strict=True)
            if waits
        ],
        "price_guard": asdict(outlier_filter) if outlier_filter else None,
        "bars": bars,
        "accounts": accounts.to_dict() if accounts else None,
    }


def quality_tables(report: Mapping[str, Any]) -> None:
    """Print files with faults, files that do not fit together, and totals."""
    bars = report["bars"]
    faulty = [file for file in bars["files"] if any(_faults(file))]
    if faulty:
        _fault_tables(faulty)
    for pair in bars["agreements"]:
        if pair["verdict"]:
            console.print(_pair_line(pair))
    start, end = report["span"]
    console.print(
        f"{report['rows']:,} rows of {len(bars['files'])} files, {len(report['symbols'])} symbols "
        f"at {report['interval']}, {start} to {end}; {len(faulty)} file(s) with faults"
    )
    gap_hours = {symbol: hours for symbol, hours in bars["held_hours"].items() if hours}
    if gap_hours:
        worst = max(gap_hours, key=lambda symbol: gap_hours[symbol])
        console.print(
            f"marks held through gaps: {sum(gap_hours.values()):,.4g} h over {len(gap_hours)} "
            f"symbols, most for {worst} ({gap_hours[worst]:,.4g} h)"
        )
    for file in bars["context"]:
        console.print(_exogenous_line(file))
    if report["suspect_now"]:
        console.print(f"suspect now: {', '.join(report['suspect_now'])}")
    if report["accounts"]:
        parts = [f"{name.replace('_', ' ')} {value}" for name, value in report["accounts"].items()]
        console.print(f"accounts: {', '.join(parts)}")


def _fault_tables(files: Sequence[Mapping[str, Any]]) -> None:
    for (folder, kind), entries in groupby(files, key=lambda file: (file["folder"], file["kind"])):
        table = Table(title=f"{Path(folder).name} ({kind})", title_justify="left")
        table.add_column("symbol", no_wrap=True)
        table.add_column("bars", no_wrap=True)
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("faults")
        for file in entries:
            faults = ", ".join(_faults(file))
            table.add_row(file["symbol"], file["interval"], f"{file['rows']:,}", faults)
        console.print(table)


def _faults(file: Mapping[str, Any]) -> Iterator[str]:
    for fault in FAULTS:
        count = file[fault]
        if not count or fault == "unsorted":
            continue
        text = f"{count:,} {fault}"
        if fault == "gaps":
            text = f"{count:,} gap(s), longest {file['longest_gap_hours']:.3g} h"
        elif fault == "stale":
            text += f", longest {file['longest_stale_hours']:.3g} h"
        elif fault == "suspect":
            times = [time.removesuffix(":00Z") for time in file["suspect_times"][:_TIMES]]
            text += f" ({', '.join(times)}{', …' if count > len(times) else ''})"
        yield text


def _exogenous_line(file: Mapping[str, Any]) -> str:
    path = Path(file["file"])
    text = f"{path.parent.name}/{path.name} for {file['symbol']}: {file['rows']:,} rows"
    counts = [f"{file[name]:,} {name}" for name in ("repeated", "impossible") if file[name]]
    return ", ".join([text, *counts, f"{file['used']:,} used"])


def _pair_line(pair: Mapping[str, Any]) -> str:
    (first, kind), (second, other) = pair["first"], pair["second"]
    names = f"{Path(first).name} ({kind}) and {Path(second).name} ({other})"
    share = f"{pair['equal']:.1%} of {pair['bars']:,} closes are equal"
    if pair["verdict"] == "mix-up":
        return f"mix-up: {pair['symbol']} in {names}: {share}; one of them has the wrong kind"
    return f"differ: {pair['symbol']} in {names}: {share}; another venue, or the wrong kind"
