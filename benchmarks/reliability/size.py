"""``python -m benchmarks size``: bytes of the ledger a decision, on SQLite and PostgreSQL.

Tables with their indices and, on PostgreSQL, TOAST and the maps of free space, after VACUUM; what
is there before the first decision (the market, the rules) is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from benchmarks.measure import Result, write
from benchmarks.reliability.million import connect_to, post
from benchmarks.reliability.postgres import connect, find_binaries, running_cluster
from benchmarks.reliability.scenarios import serve
from benchmarks.reliability.workspace import make_workspace

DECISIONS, ACCOUNTS = 4_000, 500
CALLS = {"1_a_call": (1, False), "100_a_call": (100, False), "1_a_call_with_key": (1, True)}
"""Accounts in each call, and whether it has an idempotency key: its answer is kept then."""

_INSTRUMENTS = ("BTCUSDT-PERP", "ETHUSDT-PERP", "SOLUSDT-PERP")
_POSTGRES_PARTS = """
SELECT sum(pg_relation_size(c.oid)), sum(pg_indexes_size(c.oid)), sum(pg_total_relation_size(c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r'
"""


def main(arguments: list[str]) -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks size", description=__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/size.json")
    options = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    for name, call in itertools.product(("sqlite", "postgres"), CALLS):
        with _ledger(name) as url:
            if url is None:
                print("no PostgreSQL server is installed; only SQLite was measured")
                continue
            for part, size in _measure(url, options.decisions, *CALLS[call]).items():
                figures[f"{name}_{call}_{part}_bytes"] = size / options.decisions
    for name, value in figures.items():
        print(f"{name:<48} {value:>10.0f} bytes a decision")
    if options.keep:
        settings = {"decisions": options.decisions, "accounts": ACCOUNTS, "positions": 3}
        print(f"written to {write(Result('size', settings, figures))}")


@contextmanager
def _ledger(name: str) -> Iterator[str | None]:
    """The URL of an empty ledger; None where there is no server."""
    with contextlib.ExitStack() as stack:
        if name == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield f"sqlite:///{Path(folder) / 'ledger.db'}"
        elif (binaries := find_binaries()) is not None:
            yield stack.enter_context(running_cluster(binaries)).create_database()
        else:
            yield None


def _measure(url: str, decisions: int, batch: int, with_key: bool) -> dict[str, int]:
    """Bytes by part that so many decisions add to a ledger."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "work")
        with serve(workspace, url) as service:
            before = _parts(url)
            draw = random.Random(1)  # noqa: S311 - positions
            with closing(connect_to(service)) as connection:
                for first in range(0, decisions, batch):
                    numbers = range(first, min(first + batch, decisions))
                    accounts = [_account(n % ACCOUNTS, draw) for n in numbers]
                    post(accounts, connection, f"size-{first}" if with_key else None)
            service.stop()
    return {name: size - before.get(name, 0) for name, size in _parts(url).items()}


def _account(number: int, draw: random.Random) -> dict[str, Any]:
    positions = [{"instrument": name, "quantity": draw.uniform(0, 0.2)} for name in _INSTRUMENTS]
    return {"account_id": f"number-{number}", "cash": 5_000.0, "positions": positions}


def _parts(url: str) -> dict[str, int]:
    """Bytes of rows, of indices and in all; of SQLite in all."""
    path = make_url(url).database
    if url.startswith("sqlite") and path is not None:
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            pages = file.execute("PRAGMA page_count").fetchone()[0]
            return {"total": pages * file.execute("PRAGMA page_size").fetchone()[0]}
    with connect(url) as connection:
        connection.execute("VACUUM")
        rows, indices, total = connection.execute(_POSTGRES_PARTS).fetchone() or (0, 0, 0)
    return {"rows": int(str(rows)), "indices": int(str(indices)), "total": int(str(total))}
