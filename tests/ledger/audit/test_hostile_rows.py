"""Rows that this software never writes, with hashes that are right: problems, no tracebacks."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from ledger.archive.segments import ARCHIVE
from ledger.chain import packed_row
from ledger.packing import pack
from ledger.records import FIRST_PREVIOUS_HASH, Entry, new_id, record_hash
from ledger.store import Ledger
from ledger.verify import Verification, verify
from tests.ledger.audit.forger import Forger

KEY = {"action": "add", "key_id": "k", "secret_sha256": "a0", "created_at": 1}
SEGMENT = {"last_seq": 1, "last_hash": "0" * 64, "file_sha256": "0" * 64}


@pytest.fixture(autouse=True)
def _filled(url: str) -> None:
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {"n": n}) for n in range(3)])


def forge(url: str, payload: str, **columns: Any) -> None:
    """A record on a chain of its own, its hash as it should be."""
    row = {
        "chain": "forged",
        "seq": 1,
        "id": new_id(),
        "kind": "market",
        "account_id": None,
        "as_of": None,
        "recorded_at": 1,
        "previous_hash": FIRST_PREVIOUS_HASH,
        **columns,
    }
    row["hash"] = record_hash({**row, "payload": payload})
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        marks = ", ".join("?" * 10)
        stored = packed_row(row, pack(payload.encode()))
        connection.execute(f"INSERT INTO records VALUES ({marks})", stored)  # noqa: S608


def found(url: str) -> Verification:
    result = verify(url)
    assert not result.intact
    assert result.problems
    return result


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("answer", "[]"),
        ("answer", '{"owner": [1], "key": {}}'),
        ("answer", '{"owner": "\\ud800", "key": "k"}'),
        ("answer", '{"owner": "o", "key": "k", "x": ' + "9" * 5_000 + "}"),
        ("answer", "[" * 100_000),
        ("answer", "null"),
        ("keys", "[]"),
        ("keys", json.dumps({**KEY, "scopes": [1]})),
        ("keys", json.dumps({**KEY, "scopes": {"a": 1}})),
        (ARCHIVE, "7"),
        (ARCHIVE, json.dumps({**SEGMENT, "first_seq": [1]})),
        (ARCHIVE, json.dumps({**SEGMENT, "first_seq": 1})),
        (ARCHIVE, json.dumps({"first_seq": {"a": 1}, "contents": 1})),
        ("market", '{"contents": [[1]]}'),
    ],
)
def test_a_hostile_payload_is_a_problem(url: str, kind: str, payload: str) -> None:
    forge(url, payload, kind=kind)
    assert any("forged" in p or "'k'" in p for p in found(url).problems)


@pytest.mark.parametrize(
    "columns",
    [
        {"recorded_at": "late"},
        {"recorded_at": "late", "kind": "keys"},
        {"recorded_at": 1.5},
        {"seq": "one"},
        {"as_of": "now"},
    ],
)
def test_a_column_of_another_type_is_a_problem(url: str, columns: dict[str, Any]) -> None:
    forge(url, "{}", **columns)
    (name,) = set(columns) - {"kind"}
    assert any(name in p or "seq" in p for p in found(url).problems)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO answers VALUES ('o', 'k', x'00', 200, x'00', 1, 'text')",
        "INSERT INTO answers VALUES (x'ff', 'k', 'x', 'x', 'x', 'x', x'00')",
        "INSERT INTO segments VALUES ('main', 1, 'x', zeroblob(32), zeroblob(32), 1)",
        "INSERT INTO segments VALUES ('main', 'x', 1, zeroblob(32), zeroblob(32), 1)",
        "INSERT INTO segments VALUES (x'ff', 1, 1, zeroblob(32), zeroblob(32), 1)",
        "INSERT INTO api_keys VALUES (x'ff', 'a', 'b', 1, 2, 'c', 3, 4), "
        "('k', x'ff', x'ff', x'ff', x'ff', x'ff', x'ff', x'ff')",
        "INSERT INTO contents VALUES ('x', 'x', 'x')",
        "UPDATE records SET chain = x'ff' WHERE seq = 2",
        "UPDATE records SET seq = 'two' WHERE seq = 2",
    ],
)
def test_a_hostile_row_of_a_table_is_a_problem(url: str, forger: Forger, statement: str) -> None:
    forger.sql(statement)
    found(url)


def test_an_archive_record_that_names_nothing_that_stays_is_a_problem(
    url: str, forger: Forger
) -> None:
    payload = {**SEGMENT, "first_seq": 1, "contents": {}}
    with Ledger(url) as ledger:
        ledger.append([Entry(ARCHIVE, payload)])
    forger.sql(
        "INSERT INTO segments VALUES ('main', 1, 1, zeroblob(32), zeroblob(32), 1)",
        "DELETE FROM records WHERE seq = 1",
    )
    found(url)
    forger.sql("UPDATE segments SET last_seq = 2")
    assert any("does not name what stays" in problem for problem in found(url).problems)
