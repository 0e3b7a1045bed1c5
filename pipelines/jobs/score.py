"""Score a whole book from account files."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from decisions.account_validation import ValidatedAccounts
from decisions.book_scoring import PreviousAddOn
from decisions.decision import Outcome, decide
from decisions.decision_group import CallBasis, DecisionMaker, PendingCall
from decisions.decision_table import decision_table
from decisions.errors import NoAccountScoredError
from decisions.levels_in_force import LevelsInForce
from decisions.messages import AccountProblem, Decision
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account
from market.bars.recorded_rows import RecordedUse
from market.core.clock import format_time, parse_time
from market.core.csv_cells import csv_cell
from market.core.errors import ConfigError, DataError
from market.core.files import replace_file
from market.sources.base import AccountSource
from market.sources.http import account_message
from market.sources.parquet import AccountFolder
from models.bundle.bundle import load_bundle
from models.bundle.pointer import CHAMPION, read_pointer
from models.forecaster import Forecaster
from monitoring.recovery.recorded_quotes import recorded_quotes
from monitoring.recovery.recorded_steps import rows_known_at
from pipelines.cli.progress import Stages
from pipelines.config.config import Config
from pipelines.data.loaders import newest_close, read_market, read_rule_history

_BATCH = 5_000


def score_book(
    config: Config,
    accounts: Path,
    as_of: str | None,
    out: Path,
    *,
    record: bool,
    explain: bool = False,
) -> dict[str, Any]:
    """Decide on every account of a folder at one time and write one row each.

    Without `as_of` the time is the newest close; it is also the time of the rows of CSV files
    without ``ts``. `out` is a Parquet file, or a CSV file by its ending ``.csv``.

    The previous add-on of an account is that of its last recorded decision; an account whose
    newest record was altered is not decided on, the others are. Recorded quotes value options and
    recorded bars complete the files. With `record` the decisions are appended to the ledger and
    their ids written to the file; with `explain` the column ``explain`` is filled, else it is null.
    The report counts decisions, degraded ones by `reason_kind`, and failed accounts by kind of
    problem.

    Raises
    ------
    MargincastError
        The data, the bundle or the ledger cannot be used; no file is written.
    """
    check_output(out)
    with Stages(3) as stages, Ledger(config.ledger.url, chain="score") as ledger:
        with stages.stage("features"):
            time = newest_close(config, ledger) if as_of is None else parse_time(as_of)
            market = read_market(config, rows_known_at(ledger, time))
            ruleset = read_rule_history(config).at(time)
            snapshot = MarketSnapshot.of_history(
                market.history,
                market.features,
                time,
                mark_max_age=config.market.mark_max_age_ns,
            )
        with stages.stage("accounts"):
            source: AccountSource = AccountFolder(accounts, time)
            book = [update.account for update in source.accounts_at(time)]
            if not book:
                raise DataError(
                    f"no account in {accounts} has a snapshot at or before {format_time(time)}; "
                    "check --as-of"
                )
        with stages.stage("decide"):
            quotes = recorded_quotes(
                ledger, snapshot.features.symbols, ruleset.collateral.cash_assets, time
            )
            snapshot = replace(snapshot, quotes=quotes)
            model = champion(config)
            horizons = model.horizons if model else tuple(config.training.horizons)
            tables: list[pa.Table] = []
            problems: list[AccountProblem] = []
            levels = LevelsInForce(ledger)

            def decide_on(
                batch: Sequence[Account],
                snapshot: MarketSnapshot,
                ruleset: RuleSet,
                previous: Mapping[str, PreviousAddOn],
                explained: Collection[str],
            ) -> Outcome:
                results = decide(batch, snapshot, ruleset, model, previous, explain=explained)
                return Outcome.of(results, model)

            maker = DecisionMaker(levels, decide_on, decide_on, ledger.append_decisions)
            basis = CallBasis(snapshot, ruleset)
            for start in range(0, len(book), _BATCH):
                batch = book[start : start + _BATCH]
                if record:
                    decisions, refused = _recorded(maker, batch, basis, explain=explain)
                else:
                    sound, previous = levels.apply(_validated(batch))
                    decisions, refused = [], list(sound.problems)
                    if sound.accounts:
                        explained = tuple(sound.accounts) if explain else ()
                        chosen = list(sound.accounts.values())
                        outcome = decide_on(chosen, snapshot, ruleset, previous, explained)
                        decisions, refused = outcome.decisions, refused + outcome.problems
                problems += refused
                tables.append(decision_table(decisions, horizons))
                stages.within((start + len(batch)) / len(book))
    table = pa.concat_tables(tables)
    _write(out, table)
    binding = table["binding"].to_pylist()
    degraded = Counter(map(reason_kind, table["degraded"].drop_null().to_pylist()))
    return {
        "as_of": format_time(time),
        "accounts": len(book),
        "decisions": len(table),
        "with_model_add_on": sum(name not in {"floor", "fallback"} for name in binding),
        "degraded": degraded.total(),
        "degraded_by_reason": dict(degraded.most_common()),
        "failed": len(problems),
        "failed_by_reason": dict(Counter(problem.type for problem in problems).most_common()),
        "deposit_to_meet": round(math.fsum(table["deposit_to_meet"].to_pylist()), 2),
        "errors": msgspec.to_builtins(problems),
        "bars": market.history.report.to_dict(),
        "recorded_bars": _recorded_bars(market.history.recorded),
        "recorded": record,
        "out": str(out),
    }


def _recorded_bars(use: RecordedUse | None) -> dict[str, int]:
    """How many recorded bars the files lack, corrected the files, or differ from them."""
    names = ("filled", "replaced", "differing")
    return {name: 0 if use is None else getattr(use, name) for name in names}


def reason_kind(reason: str) -> str:
    """The kind of a reason for a degraded decision: the part before its colon."""
    return reason.partition(":")[0]


def degraded_line(report: Mapping[str, Any]) -> str | None:
    """Degraded and failed accounts of a `score_book` report in one line; None without any."""
    degraded, failed = (
        "; ".join(f"{n:,} {kind}" for kind, n in report[counts].items())
        for counts in ("degraded_by_reason", "failed_by_reason")
    )
    parts = []
    if degraded:
        parts.append(
            f"{report['degraded']:,} of {report['decisions']:,} decisions are degraded, without "
            f"a model's level ({degraded}): check --as-of, the newest bars and the champion"
        )
    if failed:
        parts.append(
            f"{report['failed']:,} of {report['accounts']:,} accounts could not be decided on "
            f"({failed}): --json says why for each"
        )
    return "; ".join(parts) or None


def unusable(report: Mapping[str, Any]) -> bool:
    """Whether no decision of a `score_book` report comes from a model."""
    return bool(report["degraded"] == report["decisions"])


def champion(config: Config) -> Forecaster | None:
    """The champion's forecaster; None before the first promotion."""
    root = config.serving.bundles
    if read_pointer(root, CHAMPION) is None:
        return None
    return Forecaster(load_bundle(root / CHAMPION))


def _validated(batch: Sequence[Account]) -> ValidatedAccounts:
    """Accounts of files, which were validated as they were read."""
    by_id = {account.account_id: account for account in batch}
    messages = {name: account_message(account) for name, account in by_id.items()}
    return ValidatedAccounts(tuple(by_id), messages, by_id, {}, [])


def _recorded(
    maker: DecisionMaker, batch: Sequence[Account], basis: CallBasis, *, explain: bool
) -> tuple[list[Decision], list[AccountProblem]]:
    """Decisions on a batch of accounts, on record, starting from the add-ons in the ledger."""
    call = PendingCall(_validated(batch), basis, explain=explain, requester="batch")
    maker.decide_and_record([call])
    if isinstance(call.error, NoAccountScoredError):
        return [], call.error.problems
    if call.error is not None:
        raise call.error
    return call.decisions, call.problems


def check_output(out: Path) -> None:
    """Refuse a file that cannot be written before anything is computed.

    Raises
    ------
    ConfigError
        The name does not end in ``.parquet`` or ``.csv``.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {str(out)!r}: expected a name that ends in .parquet or .csv")


def _write(out: Path, table: pa.Table) -> None:
    """Write a table as a whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        replace_file(out, _csv(table).encode())
        return
    partial = out.with_name(f".{out.name}.partial")
    pq.write_table(table, partial)
    partial.replace(out)


def _csv(table: pa.Table) -> str:
    """A table as CSV: times in ISO 8601, floats as they read back, an unknown cell empty."""
    columns = [
        [format_time(time) for time in column.cast(pa.int64()).to_pylist()]
        if pa.types.is_timestamp(column.type)
        else column.to_pylist()
        for column in table.columns
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([csv_cell(cell) for cell in row] for row in zip(*columns, strict=True))
    return text.getvalue()
