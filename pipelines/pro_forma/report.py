"""The pro-forma report: what a rule set or a model changes on a book before it goes live."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.history import load_history
from market.accounts.book import Account
from market.core.clock import format_time, parse_time
from market.core.csv_cells import csv_cell
from market.core.errors import ConfigError, DataError
from market.core.files import replace_file
from market.sources.parquet import AccountFolder
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.recovery.recorded_quotes import recorded_quotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.config.config import Config
from pipelines.data.loaders import read_market, read_rule_history
from pipelines.jobs.score import champion
from pipelines.pro_forma.comparison import (
    SAMPLED_ACCOUNTS,
    Regime,
    RegimeComparison,
    compare_regimes,
)
from pipelines.pro_forma.page import pro_forma_page

FORMATS = (".html", ".csv")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to go live; None: what is configured or in force.

    Attributes
    ----------
    rules:
        A preset's name, a file, or a folder of dated versions.
    bundle:
        A bundle folder or pointer file.
    """

    rules: str | None = None
    bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class BookAt:
    """Account files and the time at which they are read."""

    accounts: Path
    as_of: str


def pro_forma_report(
    config: Config, candidate: Candidate, book: BookAt | None, out: Path
) -> dict[str, Any]:
    """The object of ``report pro-forma --json``; `out` is an HTML page, or a CSV with one row an
    account.

    Parameters
    ----------
    config:
        Its rules and champion are the incumbent.
    candidate:
        What takes their place.
    book:
        Account files; None: the reference sample at its newest opening.
    out:
        Ends in .html or .csv.

    Raises
    ------
    ConfigError
        Nothing differs, or `out` has another ending.
    DataError
        No account can be decided on.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"--out {str(out)!r} ends in neither of {', '.join(FORMATS)}; give one")
    accounts, snapshot = _sampled(config) if book is None else _recorded(config, book)
    time = snapshot.as_of
    ruleset, model = read_rule_history(config).at(time), champion(config)
    incumbent = Regime(ruleset, model)
    planned = Regime(
        ruleset if candidate.rules is None else load_history(candidate.rules).at(time),
        model if candidate.bundle is None else Forecaster(load_bundle(candidate.bundle)),
    )
    if incumbent.describe() == planned.describe():
        raise ConfigError(
            f"rule set {ruleset.name!r} version {ruleset.version!r} and its model are in force "
            "already, so nothing would change; give --rules or --bundle of what is to go live"
        )
    day_one = compare_regimes(accounts, snapshot, incumbent, planned)
    final = planned.ruleset.phased_in()
    end = (
        None
        if final is planned.ruleset
        else compare_regimes(accounts, snapshot, incumbent, replace(planned, ruleset=final))
    )
    report = {
        "as_of": format_time(time),
        "book": {
            "source": "sampled" if book is None else str(book.accounts),
            "accounts": len(accounts),
        },
        "incumbent": incumbent.describe(),
        "candidate": {
            **planned.describe(),
            "model_weight": planned.ruleset.add_on.model_weight(time),
        },
        "day_one": day_one.to_dict(),
        "end_of_phase_in": None if end is None else end.to_dict(),
        "out": str(out),
    }
    text = pro_forma_page(report) if out.suffix == ".html" else accounts_csv(day_one, end)
    replace_file(out, text.encode())
    return report


def accounts_csv(day_one: RegimeComparison, end: RegimeComparison | None) -> str:
    """One row an account; during a phase-in also the requirement at its end."""
    rows = [day_one.account(n) for n in range(len(day_one.account_ids))]
    if end is not None:
        at_end = dict(zip(end.account_ids, end.after.tolist(), strict=True))
        rows = [{**row, "after_phase_in": at_end.get(row["account_id"])} for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([csv_cell(cell) for cell in row.values()] for row in rows)
    return text.getvalue()


def _sampled(config: Config) -> tuple[Sequence[Account], MarketSnapshot]:
    # Labels and the simulator come with it.
    from pipelines.data.accounts import sample_book

    return sample_book(config, read_market(config), SAMPLED_ACCOUNTS)


def _recorded(config: Config, book: BookAt) -> tuple[Sequence[Account], MarketSnapshot]:
    """Accounts of files at a time, and the market then with the recorded bars and quotes."""
    time = parse_time(book.as_of)
    accounts = [update.account for update in AccountFolder(book.accounts, time).accounts_at(time)]
    if not accounts:
        raise DataError(
            f"no account in {book.accounts} has a snapshot at or before {book.as_of}; check --as-of"
        )
    with Ledger(config.ledger.url) as ledger:
        market = read_market(config, rows_known_at(ledger, time))
        snapshot = MarketSnapshot.of_history(
            market.history, market.features, time, mark_max_age=config.market.mark_max_age_ns
        )
        cash = read_rule_history(config).at(time).collateral.cash_assets
        quotes = recorded_quotes(ledger, snapshot.features.symbols, cash, time)
    return accounts, replace(snapshot, quotes=quotes)
