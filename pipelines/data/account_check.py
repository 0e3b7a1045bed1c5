"""Own account files before a batch decides on them: what is there, and what would be refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from decisions.decision import decide
from decisions.messages import Decision
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.valuation.marks import QUOTE_COIN
from market.accounts.account_quality import check_accounts
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.sources.parquet import AccountFolder
from monitoring.recovery.recorded_quotes import recorded_quotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.config.config import Config
from pipelines.data.loaders import describe_rules, newest_close, read_market, read_rule_history
from pipelines.reports.report import console, facts, new_table, print_table

SAMPLE = 5
"""Accounts that are shown with their figures."""

_PROBLEMS_SHOWN = 20
_FIGURES = ("equity", "initial_margin", "maintenance_margin", "headroom")


def check_account_folder(config: Config, folder: Path, as_of: str | None) -> dict[str, Any]:
    """Read account files, and margin each account by the rules alone, without a model.

    Parameters
    ----------
    config:
        Its market prices the accounts, its rules margin them.
    folder:
        Of Parquet or CSV files, see `market.accounts.account_files`.
    as_of:
        The time, ISO 8601; None: the newest close. Also that of CSV rows without ``ts``.

    Returns
    -------
    dict
        ``quality`` as `market.accounts.account_quality.AccountQuality`; ``refused``: accounts that
        cannot be margined, ``refused_by_reason`` and ``errors``; ``instruments`` and
        ``cash_assets`` as named in the book; ``sample``: the first `SAMPLE` accounts with their
        figures in USD.

    Raises
    ------
    MargincastError
        The files, the market or the rules cannot be used at all.
    """
    with Ledger(config.ledger.url) as ledger:
        time = newest_close(config, ledger) if as_of is None else parse_time(as_of)
        source = AccountFolder(folder, time)
        history = source.history
        market = read_market(config, rows_known_at(ledger, time))
        rules = read_rule_history(config).at(time)
        snapshot = MarketSnapshot.of_history(
            market.history, market.features, time, mark_max_age=config.market.mark_max_age_ns
        )
        cash = rules.collateral.cash_assets
        quotes = recorded_quotes(ledger, snapshot.features.symbols, cash, time)
    accounts = [update.account for update in source.accounts_at(time)]
    if not accounts:
        raise DataError(
            f"no account in {folder} has a snapshot at or before {format_time(time)}; check --as-of"
        )
    closes = market.history.bars.closes
    quality = check_accounts(
        history,
        market.history.bars.symbols,
        int(closes[0]),
        int(closes[-1]),
        lambda asset: rules.collateral.is_cash(asset) or asset == QUOTE_COIN,
    )
    results = decide(accounts, replace(snapshot, quotes=quotes), rules, None, {})
    decided = [result for result in results if isinstance(result, Decision)]
    problems = [result for result in results if not isinstance(result, Decision)]
    assets = history.collateral.names
    return {
        "folder": str(folder),
        "as_of": format_time(time),
        "ruleset": describe_rules(rules),
        "accounts": len(accounts),
        "instruments": list(history.positions.names),
        "assets": list(assets),
        "cash_assets": [asset for asset in assets if rules.collateral.is_cash(asset)],
        "quality": quality.to_dict(),
        "refused": len(problems),
        "refused_by_reason": dict(Counter(problem.type for problem in problems).most_common()),
        "errors": msgspec.to_builtins(problems),
        "sample": [
            {"account_id": one.account_id, **{name: getattr(one, name) for name in _FIGURES}}
            for one in decided[:SAMPLE]
        ],
    }


def account_tables(report: Mapping[str, Any]) -> None:
    """Print the object of ``data --accounts --json``."""
    quality = report["quality"]
    facts(
        "accounts",
        {
            "folder": report["folder"],
            "as of": report["as_of"],
            "rules": f"{report['ruleset']['name']} {report['ruleset']['version']}".strip(),
            "accounts": report["accounts"],
            "instruments": _names(report["instruments"]),
            "without bars": _names(quality["unpriced_symbols"]),
            "cash": _names(report["cash_assets"]),
            "assets without price": _names(quality["unpriced_assets"]),
            "never in collateral": quality["without_collateral"],
            "negative collateral": quality["negative_collateral"],
            "outside the bars": quality["outside_market"],
            "would be refused": report["refused"],
        },
    )
    table = new_table(
        f"the first {len(report['sample'])} accounts, USD, by the rules alone",
        ("account",),
        ("equity", "initial", "maintenance", "headroom"),
    )
    for row in report["sample"]:
        table.add_row(escape(row["account_id"]), *(f"{row[name]:,.2f}" for name in _FIGURES))
    if report["sample"]:
        print_table(table)
    for problem in report["errors"][:_PROBLEMS_SHOWN]:
        line = f"refused: {problem['account_id']}: {problem['type']}: {problem['detail']}"
        console.print(line, markup=False, highlight=False)
    more = len(report["errors"]) - _PROBLEMS_SHOWN
    if more > 0:
        console.print(f"and {more:,} more; --json lists them all")


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "none"
