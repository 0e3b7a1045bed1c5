"""Ledgers of an earlier revision are upgraded whole or not at all, and keep every hash."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url, text, update

from ledger.canonical import read_canonical, sha256_hex
from ledger.engines import LOCK_SUFFIX
from ledger.idempotency import ANSWER, RequestKey
from ledger.keys import Keys
from ledger.migrations.ledger_upgrade import upgrade
from ledger.records import FIRST_PREVIOUS_HASH, Entry, record_hash
from ledger.schema import FIRST_REVISION, REVISION, metadata, open_engine, versions
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError
from tests.ledger.migrations.old_ledger import ANSWERED, kept_rows, make_old

HERE = Path(__file__).parent
KEPT_LEDGERS = [
    HERE / "36c2e95.json",
    *sorted((HERE.parents[1] / "decisions" / "ledgers").glob("*.json")),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


def many_rows(count: int) -> dict[str, list[dict[str, Any]]]:
    """A chain of small records."""
    rows: list[dict[str, Any]] = []
    previous = FIRST_PREVIOUS_HASH
    for seq in range(1, count + 1):
        row: dict[str, Any] = {
            "chain": "main",
            "seq": seq,
            "id": f"{seq:032x}",
            "kind": "decision",
            "account_id": f"a{seq % 7}",
            "as_of": seq,
            "recorded_at": seq,
            "payload": json.dumps({"n": seq}, separators=(",", ":")),
            "previous_hash": previous,
        }
        previous = row["hash"] = record_hash(row)
        rows.append(row)
    content = '{"x":1}'
    shared = {"sha256": sha256_hex(content.encode()), "kind": "market", "content": content}
    return {"records": rows, "contents": [shared]}


def upgraded_heads(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["chain"]: row["hash"] for row in sorted(rows, key=lambda row: row["seq"])}


@pytest.mark.parametrize("path", KEPT_LEDGERS, ids=lambda path: path.stem)
def test_kept_ledgers_of_every_schema_are_upgraded_with_their_hashes(url: str, path: Path) -> None:
    rows = kept_rows(path)
    make_old(url, rows)
    told: list[tuple[int, int]] = []
    done = upgrade(url, lambda rows, total: told.append((rows, total)))
    count = len(rows["records"])
    assert (done.before, done.after, done.records) == (FIRST_REVISION, REVISION, count)
    assert told[-1] == (2 * count, 2 * count)
    found = verify(url)
    # The key of this test was put into the table.
    assert [problem for problem in found.problems if "API key 'abc'" not in problem] == []
    heads = {chain: state.head for chain, state in found.chains.items() if chain != "upgrade"}
    assert heads == upgraded_heads(rows["records"])
    with Ledger(url, chain="serving") as ledger:
        for row in rows["records"]:
            record = ledger.get_record(row["id"])
            assert record.payload == read_canonical(row["payload"])
            assert (record.hash, record.previous_hash) == (row["hash"], row["previous_hash"])
        for row in rows["contents"]:
            assert ledger.get(row["sha256"]) == read_canonical(row["content"])
        request = RequestKey(ANSWERED.owner, ANSWERED.key)
        assert ledger.answers.lookup([request]) == {request: ANSWERED}
        (covering,) = ledger.records(ANSWER)
        assert covering.payload["response_sha256"] == sha256_hex(ANSWERED.response)
        assert [key.key_id for key in Keys(ledger).list_keys()] == ["abc"]
        appended = ledger.append([Entry("decision", {"n": 1}, account_id="a")])
        assert appended[0].previous_hash == heads["serving"]
    assert upgrade(url).kept is None, "a second upgrade has nothing to do"


def test_an_upgraded_database_has_the_tables_of_a_fresh_one(url: str) -> None:
    make_old(url, many_rows(3))
    upgrade(url)
    engine = open_engine(url)
    options = {"version_table": "ledger_version"}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    problems = verify(url).problems
    assert [problem for problem in problems if "API key 'abc'" not in problem] == []


def test_a_ledger_of_an_earlier_or_a_newer_version_is_refused_in_one_line(url: str) -> None:
    make_old(url, many_rows(3))
    for create in (True, False):
        with pytest.raises(LedgerError, match="run `margincast ledger upgrade`") as refused:
            open_engine(url, create=create)
        assert "\n" not in str(refused.value)
    upgrade(url)
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(LedgerError, match="revision 9999, which a newer version made"):
        Ledger(url)
    with pytest.raises(LedgerError, match="newer version made"):
        upgrade(url)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET payload = '{\"n\":1}' WHERE seq = 4",
        "DELETE FROM records WHERE seq = 4",
        "UPDATE contents SET content = '{}'",
    ],
)
def test_an_altered_ledger_is_not_upgraded_and_stays_as_it_is(url: str, change: str) -> None:
    make_old(url, many_rows(9))
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        connection.execute(text(change.replace(":1", "\\:1")))
    engine.dispose()
    with pytest.raises(LedgerError, match="not as it was recorded"):
        upgrade(url)
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM records")).scalar_one()
        assert count == 9 - change.startswith("DELETE")
    engine.dispose()
    with pytest.raises(LedgerError, match="revision 0001"):
        Ledger(url)


def test_a_ledger_in_use_is_not_upgraded(url: str) -> None:
    make_old(url, many_rows(3))
    engine = create_engine(make_url(url))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.execute(text("SELECT count(*) FROM records")).scalar_one()
        with pytest.raises(LedgerError, match="in use"):
            upgrade(url)
    engine.dispose()
    assert upgrade(url).after == REVISION


def test_the_file_of_before_is_kept_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    make_old(url, many_rows(30))
    path.chmod(0o640)
    done = upgrade(url)
    assert done.kept == tmp_path / "ledger.db.0001"
    assert path.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(done.kept)) as old:
        assert old.execute("SELECT count(*) FROM records").fetchone() == (30,)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("ledger.db", "ledger.db.0001", f"ledger.db{LOCK_SUFFIX}")
    }
    path.unlink()
    make_old(url, many_rows(5))
    with pytest.raises(LedgerError, match="move it away"):
        upgrade(url)


UPGRADE = "import sys; from ledger.migrations.ledger_upgrade import upgrade; upgrade(sys.argv[1])"


def test_a_killed_upgrade_leaves_the_old_ledger_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    rows = many_rows(20_000)
    make_old(url, rows)
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[2])}
    running = subprocess.Popen([sys.executable, "-c", UPGRADE, url], env=environment)
    work = tmp_path / "ledger.db.upgrading"
    deadline = time.monotonic() + 300
    while not (
        (work.exists() and Path(f"{work}-wal").exists())
        or work.with_name(f"{work.name}-journal").exists()
    ):
        assert running.poll() is None, "it ended before it was killed: take more records"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    with pytest.raises(LedgerError, match="revision 0001"):
        Ledger(url)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("SELECT count(*) FROM records").fetchone() == (20_000,)
    upgrade(url)
    assert verify(url).chains["main"].head == rows["records"][-1]["hash"]


def test_a_ledger_opens_without_alembic(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['alembic'] = None\n"
        f"from ledger.store import Ledger; Ledger('sqlite:///{tmp_path}/ledger.db').close()"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[2])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


TABLES_SINCE = {
    "0002": ["accounts", "leases", "calls", "instructions", "enforcement_state", "outbox"],
    "0003": ["calls", "instructions", "enforcement_state", "outbox"],
}
"""Tables of this version that each earlier revision lacks."""


@pytest.mark.parametrize("before", TABLES_SINCE)
def test_a_ledger_of_a_revision_between_gains_the_tables_since(url: str, before: str) -> None:
    with Ledger(url) as ledger:
        ledger.append([Entry(kind="decision", payload={"n": 1})])
        with ledger.transaction() as connection:
            for table in TABLES_SINCE[before]:
                connection.execute(text(f"DROP TABLE {table}"))
            connection.execute(update(versions).values(version_num=before))
    with pytest.raises(LedgerError, match="ledger upgrade"):
        Ledger(url)
    done = upgrade(url)
    assert (done.before, done.after, done.records) == (before, REVISION, 1)
    with Ledger(url) as ledger:
        assert verify(ledger.engine).intact
        with ledger.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": "ledger_version"}
            )
            assert compare_metadata(context, metadata) == []
