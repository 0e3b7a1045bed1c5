"""Reads what metrics say of disk and ledger; never MLflow, which an endpoint does not have."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from math import nan
from pathlib import Path

from sqlalchemy import text

from enforcement.delivery.outbox import SinkCounts, count_rows
from ledger.schema import database_errors
from ledger.store import Ledger
from market.core.clock import SECOND
from serving.telemetry.metrics.facts import StoredFacts

HEADS_COPIED = ".copied"
"""File beside those of the heads that is written anew whenever heads were copied outside."""


def read_stored_facts(ledger: Ledger, folders: Mapping[str, Path]) -> StoredFacts:
    """Look at disk and ledger.

    Parameters
    ----------
    ledger:
        The ledger, in which retraining and checks of drift record their verdicts.
    folders:
        Folders whose disk counts, by the name to show.

    Raises
    ------
    LedgerError
        The ledger cannot be read.
    """
    file = ledger.engine.url.database if ledger.engine.dialect.name == "sqlite" else None
    shown = {**folders, **({"ledger": Path(file).parent} if file else {})}
    disks: dict[str, tuple[float, float]] = {}
    for name, folder in shown.items():
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
            disks[name] = (float(usage.free), float(usage.total))
    heads = folders.get("heads")
    last = ledger.last_record("retrain")
    drift = "" if last is None else str(last.payload.get("drift") or "")
    checks = [] if last is None or not drift else [(last.recorded_at, drift)]
    check = ledger.last_record("drift")
    if check is not None:
        checks.append((check.recorded_at, str(check.payload["verdict"])))
    checked_at, last_drift = max(checks, default=(nan, ""))
    return StoredFacts(
        ledger_bytes=_server_bytes(ledger) if file is None else _file_bytes(Path(file)),
        disks=disks,
        retrained_at=nan if last is None else last.recorded_at / SECOND,
        verdict="" if last is None else str(last.payload["verdict"]),
        drift=drift,
        drift_checked_at=checked_at / SECOND,
        last_drift=last_drift,
        heads_at=nan if heads is None else _newest(heads, "*.json"),
        outbox=_outbox(ledger),
        heads_copied_at=nan if heads is None else _newest(heads, HEADS_COPIED),
    )


def _outbox(ledger: Ledger) -> dict[str, SinkCounts]:
    with database_errors("read its outbox"), ledger.engine.connect() as connection:
        return count_rows(connection)


def _newest(folder: Path, pattern: str) -> float:
    """When the newest of some files was written, in seconds since 1970; NaN without one."""
    times = [nan]
    with suppress(OSError):
        times += [file.stat().st_mtime for file in folder.glob(pattern)]
    return max(times[1:], default=nan)


def _file_bytes(file: Path) -> float:
    total = nan
    with suppress(OSError):
        total = float(file.stat().st_size)
        total += file.with_name(f"{file.name}-wal").stat().st_size
    return total


def _server_bytes(ledger: Ledger) -> float:
    with database_errors("read its size"), ledger.engine.connect() as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return float(size)
