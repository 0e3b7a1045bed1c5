"""Archiving: nothing is lost between two steps, what must stay stays, and files are checked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger.archive.archived import ArchivedRecords
from ledger.archive.archiver import Archiver, Span
from ledger.archive.files import Manifest
from ledger.archive.segments import Segment
from ledger.audit.backup import back_up
from ledger.audit.heads import heads
from ledger.audit.heads_series import write_next_heads
from ledger.audit.signing import Signer, make_key_pair
from ledger.canonical import sha256_of
from ledger.contents import CanonicalContent
from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.records import EncodedEntry, Entry, Record
from ledger.store import Ledger
from ledger.verify import Checks, verify
from market.core.clock import DAY
from market.core.errors import AlteredError, LedgerError
from market.core.file_lock import exclusive_lock
from tests.ledger.audit.forger import Forger

PAIR = make_key_pair()
ACCOUNTS = 5
OLD, NEW = {"ruleset": "old"}, {"ruleset": "new"}


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url, chain="serving") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def decide(ledger: Ledger, name: str, n: int, content: dict[str, str], key: str = "") -> None:
    market = {"close": n}
    payload = {
        "n": n,
        "contents": {"market_sha256": sha256_of(market), "ruleset_sha256": sha256_of(content)},
    }
    entry = EncodedEntry.of(Entry("decision", payload, account_id=name, as_of=n))
    answers = [IdempotentAnswer("owner", key, "a" * 64, 200, b"{}")] if key else []
    contents: list[tuple[str, dict[str, Any] | CanonicalContent]] = [
        ("market", dict(market)),
        ("ruleset", dict(content)),
    ]
    ledger.append_decisions(Draft([[entry]], contents=contents, answers=answers), _never)


def _never(_: object) -> Draft:
    raise AssertionError("nothing was recorded meanwhile")


def fill(ledger: Ledger, url: str) -> int:
    """Old decisions, then new ones; returns a time between them."""
    for n in range(15):
        decide(ledger, f"a{n % ACCOUNTS}", n, OLD, key=f"k{n}" if n % 3 == 0 else "")
    decide(ledger, "quiet", 15, OLD)
    ledger.append([Entry("market", {"kept": True})])
    with Ledger(url, chain="shadow") as shadow:
        shadow.append([Entry("shadow", {"n": n}) for n in range(10)])
    with Ledger(url, chain="market") as market:
        market.append([Entry("bars", {"n": n}) for n in range(5)])
    time.sleep(0.002)
    boundary = time.time_ns()
    time.sleep(0.002)
    for n in range(40, 50):
        decide(ledger, f"a{n % ACCOUNTS}", n, NEW)
    with Ledger(url, chain="shadow") as shadow:
        shadow.append([Entry("shadow", {"n": 10})])
    return boundary


def all_decisions(ledger: Ledger) -> list[Record]:
    return [*ledger.records("decision"), *ledger.records("shadow"), *ledger.records("answer")]


def test_archived_records_leave_the_table_and_are_found_in_the_files(
    ledger: Ledger, url: str, folder: Path
) -> None:
    boundary = fill(ledger, url)
    before = all_decisions(ledger)
    in_force = ledger.last_decisions([f"a{n}" for n in range(ACCOUNTS)] + ["quiet"])
    kept_heads = heads(ledger.engine)
    done, contents = Archiver(ledger, folder, Signer(PAIR.private)).run(boundary)
    assert set(done) == {"serving", "shadow"}
    assert (done["serving"].deleted, done["shadow"].deleted) == (16 - 1, 10)
    assert contents == 15  # the market of each, but for the quiet account's
    assert ledger.last_decisions(in_force) == in_force
    archive = ArchivedRecords(ledger, folder)
    for record in before:
        assert archive.get_record(record.id) == record
        for sha256 in record.payload.get("contents", {}).values():
            assert archive.get(sha256)
    gone = next(record for record in before if record.account_id == "a0")
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.get_record(gone.id)
    with pytest.raises(LedgerError, match="not in the ledger"):
        archive.get_record("none")
    found = verify(ledger.engine, kept_heads, Checks(archive=folder, public_keys=[PAIR.public]))
    assert found.problems == []
    assert verify(ledger.engine).intact
    assert "archived and were not read" in verify(ledger.engine).notes[0]


def test_answers_that_may_be_asked_for_again_stay(ledger: Ledger, url: str, folder: Path) -> None:
    boundary = fill(ledger, url)
    Archiver(ledger, folder).run(boundary)
    request = RequestKey("owner", "k3")
    assert ledger.answers.lookup([request])[request].response == b"{}"
    assert verify(ledger.engine, checks=Checks(answers_kept=DAY)).problems == []


def test_archiving_again_goes_on_and_with_nothing_old_does_nothing(
    ledger: Ledger, url: str, folder: Path
) -> None:
    boundary = fill(ledger, url)
    archiver = Archiver(ledger, folder)
    archiver.run(boundary)
    size = heads(ledger.engine)["chains"]["serving"]["seq"]
    archiver.run(boundary)
    assert heads(ledger.engine)["chains"]["serving"]["seq"] == size
    for n in range(60, 66):
        decide(ledger, f"a{n % ACCOUNTS}", n, NEW)
    decide(ledger, "quiet", 66, NEW)
    records = all_decisions(ledger)
    archiver.run(time.time_ns())
    assert verify(ledger.engine, checks=Checks(archive=folder)).problems == []
    archive = ArchivedRecords(ledger, folder)
    assert all(archive.get_record(record.id) == record for record in records)
    # The quiet account's old decision was superseded, and left with the second segment.
    assert len(list(ledger.records("decision"))) == ACCOUNTS + 1


class CutError(Exception):
    """The process ends here."""


class CutArchiver(Archiver):
    """Ends before or after a step, the n-th time it comes there."""

    step = ""
    after = False

    def _at(self, step: str, *, after: bool) -> None:
        if (step, after) == (self.step, self.after):
            raise CutError(step)

    def write(self, span: Span) -> Manifest:
        self._at("write", after=False)
        manifest = super().write(span)
        self._at("write", after=True)
        return manifest

    def check(self, manifest: Manifest) -> None:
        super().check(manifest)
        self._at("check", after=True)

    def seal(self, manifest: Manifest) -> None:
        super().seal(manifest)
        self._at("seal", after=True)

    def delete_rows(self, last: Segment) -> int:
        deleted = super().delete_rows(last)
        self._at("delete_rows", after=True)
        return deleted

    def delete_contents(self) -> int:
        self._at("delete_contents", after=False)
        deleted = super().delete_contents()
        self._at("delete_contents", after=True)
        return deleted


STEPS = [
    ("write", False),
    ("write", True),
    ("check", True),
    ("seal", True),
    ("delete_rows", True),
    ("delete_contents", False),
    ("delete_contents", True),
]


@pytest.mark.parametrize(("step", "after"), STEPS)
def test_cut_off_anywhere_nothing_is_lost_and_the_next_run_ends_it(
    ledger: Ledger, url: str, folder: Path, step: str, after: bool
) -> None:
    boundary = fill(ledger, url)
    records = all_decisions(ledger)
    archiver = CutArchiver(ledger, folder)
    archiver.step, archiver.after = step, after
    with pytest.raises(CutError):
        archiver.run(boundary)
    half = ArchivedRecords(ledger, folder) if any(folder.iterdir()) else ledger
    assert all(half.get_record(record.id) == record for record in records)
    problems = verify(ledger.engine).problems
    assert all("archiving was cut off" in problem for problem in problems)
    assert bool(problems) == (step == "seal")
    Archiver(ledger, folder).run(boundary)
    assert verify(ledger.engine, checks=Checks(archive=folder)).problems == []
    archive = ArchivedRecords(ledger, folder)
    assert all(archive.get_record(record.id) == record for record in records)
    assert len(list(ledger.records("decision"))) == 10 + 1


@pytest.mark.parametrize("longer", [False, True])
def test_after_the_restore_of_an_earlier_backup_no_archived_record_is_replaced(
    ledger: Ledger, url: str, folder: Path, tmp_path: Path, longer: bool
) -> None:
    fill(ledger, url)
    back_up(url, tmp_path / "backup.db")
    for n in range(50, 60):
        decide(ledger, f"a{n % ACCOUNTS}", n, NEW)
    Archiver(ledger, folder).run(time.time_ns())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with Ledger(f"sqlite:///{tmp_path}/backup.db", chain="serving") as restored:
        for n in range(60, 90 if longer else 62):  # the chain goes on from the backup
            decide(restored, f"a{n % ACCOUNTS}", n, NEW)
        with pytest.raises(LedgerError, match=r"that this ledger lacks.*keep the files serving-"):
            Archiver(restored, folder).run(time.time_ns())
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert verify(restored.engine).problems == []
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for path in folder.glob("s*"):
            path.rename(elsewhere / path.name)
        Archiver(restored, folder).run(time.time_ns())
        assert verify(restored.engine, checks=Checks(archive=folder)).problems == []


def test_rows_are_deleted_in_bounded_transactions_and_a_cut_between_two_is_mended(
    ledger: Ledger, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundary = fill(ledger, url)
    records = all_decisions(ledger)
    monkeypatch.setattr("ledger.archive.archiver._BATCH", 4)
    archiver = Archiver(ledger, folder)
    whole, calls = archiver._delete, []

    def delete(chain: str, hashes: dict[int, str], kept: dict[int, str]) -> int:
        calls.append(len(hashes))
        if len(calls) == 3:
            raise CutError
        return whole(chain, hashes, kept)

    monkeypatch.setattr(archiver, "_delete", delete)
    with pytest.raises(CutError):
        archiver.run(boundary)
    assert max(calls) == 4
    assert any("was cut off" in problem for problem in verify(ledger.engine).problems)
    Archiver(ledger, folder).run(boundary)
    assert verify(ledger.engine, checks=Checks(archive=folder)).problems == []
    archive = ArchivedRecords(ledger, folder)
    assert all(archive.get_record(record.id) == record for record in records)


def test_a_file_that_does_not_read_back_deletes_nothing(
    ledger: Ledger, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundary = fill(ledger, url)
    archiver = Archiver(ledger, folder)
    write = archiver.write

    def write_badly(span: Span) -> Manifest:
        manifest = write(span)
        path = folder / manifest.file
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        return manifest

    monkeypatch.setattr(archiver, "write", write_badly)
    records = all_decisions(ledger)
    with pytest.raises(LedgerError, match="no record was deleted"):
        archiver.run(boundary)
    assert all_decisions(ledger) == records
    assert verify(ledger.engine).intact


def test_a_chain_that_is_not_intact_is_not_archived(
    ledger: Ledger, url: str, folder: Path, forger: Forger
) -> None:
    boundary = fill(ledger, url)
    forger.sql("UPDATE records SET as_of = 99 WHERE chain = 'serving' AND seq = 4")
    with pytest.raises(LedgerError, match="not intact at seq 4"):
        Archiver(ledger, folder).run(boundary)
    assert forger.one("SELECT count(*) FROM segments") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE segments SET last_seq = last_seq - 1", "is not what its record"),
        ("UPDATE segments SET last_hash = zeroblob(32)", "is not what its record"),
        ("UPDATE segments SET file_sha256 = zeroblob(32)", "is not what its record"),
        ("DELETE FROM segments WHERE chain = 'serving'", "its row is missing"),
        (
            "DELETE FROM records WHERE chain = 'serving' AND account_id = 'quiet'",
            "it was to stay in the table",
        ),
        (
            "UPDATE records SET as_of = 4 WHERE chain = 'serving' AND account_id = 'quiet'",
            "does not match its hash",
        ),
        (
            "INSERT INTO records SELECT chain, 1, zeroblob(16), kind, account_id, as_of, "
            "recorded_at, payload, previous_hash, hash FROM records WHERE account_id = 'quiet'",
            "does not match its hash",
        ),
        (
            "INSERT INTO segments SELECT 'market', 1, 3, hash, zeroblob(32), 1 FROM records "
            "WHERE chain = 'market' AND seq = 3",
            "deleted, not archived",
        ),
    ],
)
def test_tampering_with_what_an_archive_left_is_found(
    ledger: Ledger, url: str, folder: Path, forger: Forger, change: str, said: str
) -> None:
    Archiver(ledger, folder).run(fill(ledger, url))
    forger.sql(change)
    problems = verify(ledger.engine).problems
    assert any(said in problem for problem in problems), problems


def altered_manifest(folder: Path, **changes: object) -> None:
    path = folder / "serving-000000000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_tampering_with_the_files_is_found(ledger: Ledger, url: str, folder: Path) -> None:
    Archiver(ledger, folder, Signer(PAIR.private)).run(fill(ledger, url))
    checks = Checks(archive=folder, public_keys=[PAIR.public])
    assert verify(ledger.engine, checks=checks).problems == []
    contents = folder / "serving-000000000001-contents.parquet"
    whole = contents.read_bytes()
    table = pq.read_table(contents)
    pq.write_table(table.slice(1), contents)
    assert any(
        "was altered" in problem for problem in verify(ledger.engine, checks=checks).problems
    )
    contents.unlink()
    assert any("cannot be read" in p for p in verify(ledger.engine, checks=checks).problems)
    contents.write_bytes(whole)
    altered_manifest(folder, sealed_at="2020-01-01T00:00:00Z")
    assert any("signature is wrong" in p for p in verify(ledger.engine, checks=checks).problems)
    altered_manifest(folder, last_hash="0" * 64)
    assert any("of another segment" in p for p in verify(ledger.engine, checks=checks).problems)
    (folder / "serving-000000000001.json").unlink()
    assert any("is not in the archive" in p for p in verify(ledger.engine, checks=checks).problems)


def test_heads_within_an_archived_segment_are_compared_with_its_file(
    ledger: Ledger, url: str, folder: Path
) -> None:
    boundary = fill(ledger, url)
    kept = heads(ledger.engine)
    kept["chains"]["serving"] = {"seq": 2, "hash": "0" * 64}
    Archiver(ledger, folder).run(boundary)
    problems = verify(ledger.engine, kept, Checks(archive=folder)).problems
    assert any("seq 2 is not the record the heads name" in problem for problem in problems)


def test_an_altered_file_is_not_read_from(ledger: Ledger, url: str, folder: Path) -> None:
    boundary = fill(ledger, url)
    record = next(ledger.records("decision"))
    Archiver(ledger, folder).run(boundary)
    path = folder / "serving-000000000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(AlteredError, match="not the one that was sealed"):
        ArchivedRecords(ledger, folder).get_record(record.id)


def test_contents_that_a_later_record_depends_on_stay(
    ledger: Ledger, url: str, folder: Path
) -> None:
    boundary = fill(ledger, url)
    archiver = Archiver(ledger, folder)
    late = {"close": 7}
    deleting = archiver.delete_contents

    def record_and_delete() -> int:
        ledger.append([Entry("decision", {"contents": [sha256_of(late)]}, account_id="late")])
        return deleting()

    archiver.delete_contents = record_and_delete  # type: ignore[method-assign]
    archiver.run(boundary)
    assert ledger.get(sha256_of(late)) == late
    assert verify(ledger.engine, checks=Checks(archive=folder)).problems == []


def test_two_runs_at_once_do_not_replace_a_sealed_file(
    ledger: Ledger, url: str, folder: Path
) -> None:
    boundary = fill(ledger, url)
    folder.mkdir()
    with (
        exclusive_lock(str(folder / ".archive.lock"), 0.0),
        pytest.raises(LedgerError, match="another run archives"),
    ):
        Archiver(ledger, folder).run(boundary)
    assert not list(folder.glob("*.parquet"))
    Archiver(ledger, folder).run(boundary)
    assert verify(ledger.engine, checks=Checks(archive=folder)).problems == []


def test_a_series_of_heads_goes_on_after_its_records_were_archived(
    ledger: Ledger, url: str, folder: Path, tmp_path: Path
) -> None:
    boundary = fill(ledger, url)
    (out := tmp_path / "heads").mkdir()
    write_next_heads(url, out, Signer(PAIR.private))
    time.sleep(0.002)
    for n in range(50, 55):
        decide(ledger, f"a{n % ACCOUNTS}", n, NEW)
    assert boundary < time.time_ns()
    Archiver(ledger, folder).run(time.time_ns())
    _, second = write_next_heads(url, out, Signer(PAIR.private))
    assert second["counter"] == 2


def test_a_forged_segment_does_not_hide_deleted_records_from_heads(
    ledger: Ledger, url: str, folder: Path, tmp_path: Path
) -> None:
    boundary = fill(ledger, url)
    kept = heads(ledger.engine)
    Archiver(ledger, tmp_path / "forged").run(boundary)  # as a forger could, its files thrown away
    assert verify(ledger.engine).intact
    for later in (kept, heads(ledger.engine)):
        (problem,) = verify(ledger.engine, later).problems
        assert "--archive" in problem
    folder.mkdir()
    problems = verify(ledger.engine, kept, Checks(archive=folder)).problems
    assert any("is not in the archive" in problem for problem in problems)
    assert verify(ledger.engine, kept, Checks(archive=tmp_path / "forged")).problems == []
