"""Score a whole book from account files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from features.snapshot import MarketSnapshot
from ledger.store import Ledger
from market.account_files import read_accounts
from market.book import Account
from market.clock import parse_time
from market.errors import DataError
from models.bundle import load_bundle
from models.forecaster import Forecaster
from models.pointer import CHAMPION, read_pointer
from pipelines.config import Config
from pipelines.inputs import read_market, read_rules
from pipelines.progress import Stages
from serving.decision import NO_BUNDLE, PreviousAddOn, decide
from serving.messages import AccountProblem, Decision
from serving.records import entries, from_account, recorded_previous

_BATCH = 5_000


def score_book(
    config: Config, accounts: Path, as_of: str, out: Path, *, record: bool
) -> dict[str, Any]:
    """Decide on every account of a folder at one time and write one row each.

    The previous add-on of an account is that of its last recorded decision. With `record` the
    decisions are appended to the ledger; their ids stand in the file.

    Raises
    ------
    MargincastError
        The data, the bundle or the ledger refused; no file is written.
    """
    time = parse_time(as_of)
    with Stages(3) as stages:
        with stages.stage("features"):
            market = read_market(config)
            ruleset = read_rules(config)
            snapshot = MarketSnapshot.of_history(market.history, market.features, time)
        with stages.stage("accounts"):
            book = read_accounts(accounts).book_at(time).accounts()
            if not book:
                raise DataError(
                    f"no account in {accounts} has a snapshot at or before {as_of}; check --as-of"
                )
        with stages.stage("decide"), Ledger(config.ledger.url, chain="score") as ledger:
            model = champion(config)
            rows: list[dict[str, Any]] = []
            problems: list[AccountProblem] = []
            for batch in _batches(book):
                previous = recorded_previous(ledger, [account.account_id for account in batch])
                answers = decide(batch, snapshot, ruleset, model, previous)
                decisions = [answer for answer in answers if isinstance(answer, Decision)]
                problems += [answer for answer in answers if isinstance(answer, AccountProblem)]
                if record:
                    decisions = _record(ledger, decisions, batch, previous, snapshot, ruleset)
                rows += [_row(decision) for decision in decisions]
                stages.within(len(rows) / len(book))
    _write(out, rows, model.horizons if model else tuple(config.training.horizons))
    return {
        "accounts": len(book),
        "decisions": len(rows),
        "with_model_add_on": sum(row["binding"] not in {"floor", "fallback"} for row in rows),
        "degraded": sum(row["degraded"] is not None for row in rows),
        "deposit_to_meet": float(sum(row["deposit_to_meet"] for row in rows)),
        "errors": msgspec.to_builtins(problems),
        "bars": market.history.report.to_dict(),
        "recorded": record,
        "out": str(out),
    }


def champion(config: Config) -> Forecaster | None:
    """The champion's forecaster, None before the first promotion."""
    root = config.serving.bundles
    if read_pointer(root, CHAMPION) is None:
        return None
    return Forecaster(load_bundle(root / CHAMPION))


def _batches(book: Sequence[Account]) -> Iterator[Sequence[Account]]:
    for start in range(0, len(book), _BATCH):
        yield book[start : start + _BATCH]


def _record(
    ledger: Ledger,
    decisions: Sequence[Decision],
    batch: Sequence[Account],
    previous: dict[str, PreviousAddOn],
    snapshot: MarketSnapshot,
    ruleset: Any,
) -> list[Decision]:
    described = {account.account_id: from_account(account) for account in batch}
    found, contents, named = entries(decisions, described, previous, snapshot, ruleset, NO_BUNDLE)
    ledger.append(found, contents=contents)
    return named


def _row(decision: Decision) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(decision, str_keys=True)
    row["as_of"] = parse_time(decision.as_of)
    row["decision_id"] = row.get("decision_id")
    for hours, p in (row.pop("probability") or {}).items():
        row[f"p_{hours}"] = p
    row["reasons"] = msgspec.json.encode(row["reasons"]).decode()
    row["explain"] = msgspec.json.encode(row["explain"]).decode()
    return row


def _write(out: Path, rows: Sequence[dict[str, Any]], horizons: Sequence[int]) -> None:
    money = (
        "equity",
        "initial_margin",
        "maintenance_margin",
        "headroom",
        "add_on",
        "total_requirement",
        "deposit_to_meet",
        "floor",
        "model_add_on",
        "cap",
    )
    text = ("binding", "degraded", "reasons", "explain", "model", "ruleset")
    schema = pa.schema(
        [
            ("decision_id", pa.string()),
            ("account_id", pa.string()),
            ("as_of", pa.timestamp("ns", tz="UTC")),
            *((name, pa.float64()) for name in money),
            *((f"p_{hours}", pa.float64()) for hours in horizons),
            *((name, pa.string()) for name in text),
        ]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), partial)
    partial.replace(out)
