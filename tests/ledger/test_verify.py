from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from ledger.audit.heads import Heads, heads, read_heads, write_heads
from ledger.canonical import canonical_bytes, sha256_of
from ledger.chain import packed_row, unpacked_row
from ledger.packing import pack
from ledger.records import FIRST_PREVIOUS_HASH, Entry, record_hash
from ledger.statements import RECORD_COLUMNS
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError

VIEW = {"volatility": {"BTC": 0.55}}
OTHER = {"volatility": {"BTC": 0.65}}


@pytest.fixture
def filled(url: str) -> str:
    """Ten decisions on one chain, two records on another, two contents they rest on."""
    with Ledger(url) as ledger:
        view = ledger.put("market", VIEW)
        for n in range(10):
            payload = {"add_on": n / 3, "contents": {"view_sha256": view, "model_sha256": None}}
            ledger.append([Entry("decision", payload, account_id=f"a{n % 3}", as_of=n)])
    with Ledger(url, chain="side") as side:
        bars = Entry("bars", {"contents": [sha256_of(OTHER)]})
        side.append([bars, Entry("keys", {})], contents=[("market", OTHER)])
    return url


def sql(url: str, *statements: str) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def packed(text: bytes) -> str:
    """A text as it is stored, for a statement."""
    return f"x'{pack(text).hex()}'"


def test_untouched_ledger_is_intact(filled: str) -> None:
    read: list[int] = []
    found = verify(filled, heads(filled), progress=read.append)
    assert found.problems == []
    assert found.intact
    assert {name: state.records for name, state in found.chains.items()} == {"main": 10, "side": 2}
    assert found.chains["main"].head == heads(filled)["chains"]["main"]["hash"]
    assert read[-1] == 12


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("chain", "'mian'"),
        ("seq", "50"),
        ("seq", "'x'"),
        ("id", "'other'"),
        ("kind", "'market'"),
        ("account_id", "'other'"),
        ("account_id", "NULL"),
        ("as_of", "as_of + 1"),
        ("as_of", "NULL"),
        ("recorded_at", "recorded_at + 1"),
        ("payload", packed(b'{"add_on":0.0}')),
        ("payload", packed(b"{")),
        ("payload", packed(b"\xff")),
        ("payload", "CAST(payload || x'00' AS BLOB)"),
        ("payload", "substr(payload, 1, length(payload) - 1)"),
        ("payload", "CAST(payload AS TEXT)"),
        ("payload", "x'7f' || substr(payload, 2)"),
        ("payload", "x''"),
        ("payload", "'{'"),
        ("previous_hash", "zeroblob(31) || x'01'"),
        ("previous_hash", "lower(hex(previous_hash))"),
        ("hash", "hash || x'00'"),
        ("hash", "lower(hex(hash))"),
    ],
)
@pytest.mark.parametrize("seq", [1, 5, 10])
def test_tampering_with_any_column_is_found(filled: str, column: str, value: str, seq: int) -> None:
    sql(filled, f"UPDATE records SET {column} = {value} WHERE chain = 'main' AND seq = {seq}")  # noqa: S608
    assert not verify(filled).intact


def test_altered_record_is_named(filled: str) -> None:
    sql(filled, "UPDATE records SET as_of = 99 WHERE chain = 'main' AND seq = 4")
    (problem,) = verify(filled).problems
    assert "'main' seq 4" in problem
    assert "altered" in problem


def test_altered_record_with_a_recomputed_hash_breaks_the_link(filled: str) -> None:
    rewrite(filled, first=4, last=4)
    (problem,) = verify(filled).problems
    assert "'main' seq 5" in problem
    assert "previous_hash" in problem


@pytest.mark.parametrize("seq", [1, 5])
def test_deleted_record_is_found(filled: str, seq: int) -> None:
    sql(filled, f"DELETE FROM records WHERE chain = 'main' AND seq = {seq}")  # noqa: S608
    (problem,) = verify(filled).problems
    assert f"follows seq {seq - 1}" in problem


def test_deleted_record_is_found_when_the_rest_is_renumbered(filled: str) -> None:
    sql(
        filled,
        "DELETE FROM records WHERE chain = 'main' AND seq = 5",
        "UPDATE records SET seq = -seq WHERE chain = 'main' AND seq > 5",
        "UPDATE records SET seq = -seq - 1 WHERE seq < 0",
    )
    assert not verify(filled).intact


def test_inserted_record_is_found(filled: str) -> None:
    sql(
        filled,
        "UPDATE records SET seq = -seq WHERE chain = 'main' AND seq > 5",
        "UPDATE records SET seq = 1 - seq WHERE seq < 0",
        "INSERT INTO records SELECT chain, 6, 'forged', kind, account_id, as_of, recorded_at, "
        "payload, hash, hash FROM records WHERE chain = 'main' AND seq = 5",
    )
    assert not verify(filled).intact


def test_reordered_records_are_found(filled: str) -> None:
    sql(
        filled,
        "UPDATE records SET seq = 100 WHERE chain = 'main' AND seq = 3",
        "UPDATE records SET seq = 3 WHERE chain = 'main' AND seq = 4",
        "UPDATE records SET seq = 4 WHERE chain = 'main' AND seq = 100",
    )
    assert not verify(filled).intact


def test_truncation_is_found_with_heads_and_not_without(filled: str) -> None:
    before = heads(filled)
    sql(filled, "DELETE FROM records WHERE chain = 'main' AND seq > 7")
    assert verify(filled).intact
    (problem,) = verify(filled, before).problems
    assert "ends at seq 7, the heads say 10: truncated" in problem


def test_lost_chain_is_found_with_heads(filled: str) -> None:
    before = heads(filled)
    sql(filled, "DELETE FROM records WHERE chain = 'side'")
    assert verify(filled).intact
    assert "chain 'side' ends at seq 0" in verify(filled, before).problems[0]


def test_rewritten_chain_is_found_with_heads_and_not_without(filled: str) -> None:
    before = heads(filled)
    rewrite(filled, first=4, last=10)
    assert verify(filled).intact
    (problem,) = verify(filled, before).problems
    assert "'main' seq 10" in problem
    assert "rewritten" in problem


def test_truncated_chain_that_grew_again_is_found_with_heads(filled: str) -> None:
    before = heads(filled)
    sql(filled, "DELETE FROM records WHERE chain = 'main' AND seq > 7")
    with Ledger(filled) as ledger:
        ledger.append([Entry("decision", {"n": n}) for n in range(5)])
    assert verify(filled).intact
    assert "rewritten" in verify(filled, before).problems[0]


def test_chain_that_grew_since_the_heads_is_intact(filled: str) -> None:
    before = heads(filled)
    with Ledger(filled) as ledger, Ledger(filled, chain="new") as new:
        ledger.append([Entry("retrain", {})])
        new.append([Entry("retrain", {})])
    assert verify(filled, before).intact


def test_missing_content_is_found(filled: str) -> None:
    sql(filled, f"DELETE FROM contents WHERE sha256 = x'{sha256_of(OTHER)}'")  # noqa: S608
    (problem,) = verify(filled).problems
    assert "'side' seq 1" in problem
    assert sha256_of(OTHER) in problem
    assert "missing" in problem


@pytest.mark.parametrize(
    "change",
    [
        f"content = {packed(canonical_bytes(VIEW).replace(b'5', b'6'))}",
        "content = 'x'",
        "content = x'01'",
        "sha256 = zeroblob(32)",
        "sha256 = 'x'",
    ],
)
def test_altered_content_is_found(filled: str, change: str) -> None:
    sql(filled, f"UPDATE contents SET {change} WHERE sha256 = x'{sha256_of(VIEW)}'")  # noqa: S608
    found = verify(filled)
    assert any("altered" in problem for problem in found.problems)


def test_many_problems_are_counted_not_listed(url: str) -> None:
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {}) for _ in range(1_234)])
    sql(url, "UPDATE records SET as_of = 1")
    found = verify(url)
    assert len(found.problems) == 101
    assert found.problems[-1] == "and 1134 more"


def test_empty_ledger_is_intact_unless_heads_say_otherwise(url: str, filled: str) -> None:
    before = heads(filled)
    sql(url, "DELETE FROM records")
    assert verify(url).intact
    assert len(verify(url, before).problems) == 2


def test_verifying_creates_nothing_where_there_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        verify(f"sqlite:///{tmp_path}/sub/ledger.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(LedgerError, match="no ledger"):
        heads(f"sqlite:///{tmp_path}/empty.db")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_heads_file_is_the_documented_one(filled: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / "heads.json"
    written = heads(filled)
    write_heads(path, Heads(chains={}, at="before"))
    write_heads(path, written)
    assert read_heads(path) == written
    assert json.loads(path.read_text())["chains"]["side"] == written["chains"]["side"]
    assert set(written["chains"]["main"]) == {"seq", "hash"}
    assert written["at"].startswith(time.strftime("%Y-", time.gmtime()))
    assert [file.name for file in path.parent.iterdir()] == ["heads.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"chains": {"main": 3}, "at": ""}'])
def test_malformed_heads_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "heads.json"
    path.write_text(content)
    with pytest.raises(LedgerError, match="not a readable heads file"):
        read_heads(path)


def test_unreadable_and_unwritable_heads_are_ledger_errors(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="not a readable heads file"):
        read_heads(tmp_path / "none.json")
    with pytest.raises(LedgerError, match="cannot be written"):
        write_heads("/dev/null/heads.json", Heads(chains={}, at=""))


def rewrite(url: str, first: int, last: int) -> None:
    """Alter the record at `first` and recompute hashes up to `last`, as a forger with access."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    every = connection.execute("SELECT * FROM records WHERE chain = 'main' ORDER BY seq")
    previous = FIRST_PREVIOUS_HASH
    for stored in every.fetchall():
        row = unpacked_row(dict(zip(RECORD_COLUMNS, stored, strict=True)))
        if first <= row["seq"] <= last:
            if row["seq"] == first:
                row["payload"] = canonical_bytes({"add_on": 0.0}).decode()
            row["previous_hash"] = previous
            row["hash"] = record_hash(row)
            connection.execute(
                "UPDATE records SET payload = ?, previous_hash = ?, hash = ? "
                "WHERE chain = 'main' AND seq = ?",
                (*packed_row(row, pack(row["payload"].encode()))[-3:], row["seq"]),
            )
        previous = row["hash"]
    connection.commit()
    connection.close()
