from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.audit.heads import read_heads
from ledger.audit.heads_series import read_kept_heads, write_next_heads
from ledger.audit.signing import Signer, make_key_pair
from ledger.canonical import sha256_of
from ledger.records import FIRST_PREVIOUS_HASH, Entry
from ledger.store import Ledger
from market.core.errors import AlteredError, LedgerError
from tests.ledger.audit.forger import Forger

PAIR = make_key_pair()
SIGNER = Signer(PAIR.private)


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(address) as ledger:
        ledger.append([Entry("market", {"n": n}) for n in range(3)])
    return address


@pytest.fixture
def folder(url: str, tmp_path: Path) -> Path:
    """Four heads files, the ledger growing between them."""
    out = tmp_path / "heads"
    out.mkdir()
    for n in range(4):
        write_next_heads(url, out, SIGNER)
        with Ledger(url) as ledger:
            ledger.append([Entry("market", {"n": n})])
    return out


def path_of(folder: Path, counter: int) -> Path:
    return folder / f"heads-{counter:08d}.json"


def test_files_of_a_series_count_and_name_the_one_before(folder: Path) -> None:
    kept = read_kept_heads(folder, [PAIR.public])
    assert kept.problems == []
    assert kept.signed is True
    assert [heads["counter"] for heads in kept.files] == [1, 2, 3, 4]
    assert kept.files[0]["previous"] == FIRST_PREVIOUS_HASH
    assert kept.files[3]["previous"] == sha256_of(kept.files[2])
    assert sorted(kept.hashes()["main"]) == [3, 4, 5, 6]
    assert kept.ends()["main"]["seq"] == 6


def test_a_single_file_is_replaced_by_the_next_of_its_series(url: str, tmp_path: Path) -> None:
    out = tmp_path / "kept" / "heads.json"
    for counter in (1, 2, 3):
        before = read_heads(out) if counter > 1 else None
        path, heads = write_next_heads(url, out, None)
        assert path == out
        assert heads["counter"] == counter
        assert heads["previous"] == (FIRST_PREVIOUS_HASH if before is None else sha256_of(before))
    assert read_kept_heads(out).signed is None


def test_a_series_goes_on_after_a_named_file(url: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "heads.json"
    _, heads = write_next_heads(url, out, SIGNER, previous=path_of(folder, 4))
    assert heads["counter"] == 5
    path_of(folder, 5).write_bytes(out.read_bytes())
    assert read_kept_heads(folder, [PAIR.public]).problems == []


def test_early_files_may_be_cleared_away_and_late_ones_not(folder: Path) -> None:
    path_of(folder, 1).unlink()
    assert read_kept_heads(folder).problems == []
    path_of(folder, 3).unlink()
    (problem,) = read_kept_heads(folder).problems
    assert "number 4 follows number 2" in problem


def test_a_replaced_file_is_found_though_its_signature_is_right(
    folder: Path, url: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        write_next_heads(url, other, SIGNER)
    path_of(folder, 2).write_bytes(path_of(other, 2).read_bytes())
    problems = read_kept_heads(folder, [PAIR.public]).problems
    assert any("was replaced" in problem for problem in problems)


def test_a_file_that_is_there_twice_is_found(folder: Path) -> None:
    (folder / "copy.json").write_bytes(path_of(folder, 2).read_bytes())
    assert any("is there twice" in problem for problem in read_kept_heads(folder).problems)


@pytest.mark.parametrize("field", ["at", "counter", "previous", "chains"])
def test_an_altered_field_breaks_the_signature(folder: Path, field: str) -> None:
    heads = json.loads(path_of(folder, 4).read_text())
    heads[field] = {
        "at": "2030-01-01T00:00:00Z",
        "counter": 5,
        "previous": "0" * 64,
        "chains": {},
    }[field]
    path_of(folder, 4).write_text(json.dumps(heads))
    kept = read_kept_heads(path_of(folder, 4), [PAIR.public])
    assert kept.signed is False
    assert "signature is wrong" in kept.problems[0]


def test_unsigned_heads_are_a_problem_where_a_key_is_trusted(url: str, tmp_path: Path) -> None:
    out = tmp_path / "heads.json"
    write_next_heads(url, out, None)
    assert "not signed" in read_kept_heads(out, [PAIR.public]).problems[0]


def test_heads_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    out = tmp_path / "heads.json"
    out.write_text('{"chains": {"main": {"seq": 1, "hash": "ab"}}, "at": "2026-01-01T00:00:00Z"}')
    kept = read_kept_heads(out)
    assert (kept.problems, kept.ends()["main"]["seq"]) == ([], 1)


def test_writers_at_the_same_time_make_one_series(url: str, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    out.mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_next_heads(url, out, SIGNER), range(12)))
    kept = read_kept_heads(out, [PAIR.public])
    assert kept.problems == []
    assert [heads["counter"] for heads in kept.files] == list(range(1, 13))


def test_a_folder_without_heads_and_a_bad_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no heads file"):
        read_kept_heads(tmp_path)
    (tmp_path / "heads.json").write_text('{"chains": {}, "at": "yesterday"}')
    with pytest.raises(LedgerError, match="yesterday"):
        read_kept_heads(tmp_path)


def test_heads_of_a_rewritten_chain_are_not_signed(
    url: str, folder: Path, tmp_path: Path, forger: Forger
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    with Ledger(other) as ledger:
        ledger.append([Entry("market", {"forged": n}) for n in range(9)])
    forger.sql(
        f"ATTACH '{tmp_path}/other.db' AS other",
        "DELETE FROM records",
        "INSERT INTO records SELECT * FROM other.records",
    )
    with pytest.raises(AlteredError, match="record 6 of chain 'main' is another one"):
        write_next_heads(url, folder, SIGNER)
    forger.sql("DELETE FROM records WHERE seq > 4")
    with pytest.raises(AlteredError, match="record 6 of chain 'main' is gone"):
        write_next_heads(url, folder, SIGNER)
    assert not path_of(folder, 5).exists()


def test_a_series_goes_on_only_after_a_file_that_a_trusted_key_signed(
    url: str, folder: Path
) -> None:
    fresh = Signer(make_key_pair().private)
    with pytest.raises(AlteredError, match="not among the public keys"):
        write_next_heads(url, folder, fresh)
    write_next_heads(url, folder, fresh, public_keys=[PAIR.public])
    write_next_heads(url, folder, None)
    with pytest.raises(AlteredError, match="it is not signed"):
        write_next_heads(url, folder, fresh)


def test_a_numbered_file_that_cannot_be_read_ends_the_series(url: str, folder: Path) -> None:
    (folder / "notes.json").write_text("[]")  # another file of the folder
    path_of(folder, 4).write_text('{"chains"')
    with pytest.raises(LedgerError, match=r"00000004.*is not a readable heads file"):
        write_next_heads(url, folder, SIGNER)
    assert path_of(folder, 4).read_text() == '{"chains"'


def test_the_number_of_a_name_is_not_given_again(url: str, folder: Path) -> None:
    path_of(folder, 4).rename(path_of(folder, 7))
    path, heads = write_next_heads(url, folder, SIGNER)
    assert (path.name, heads["counter"]) == ("heads-00000008.json", 8)


def test_a_numbered_file_is_not_replaced(url: str, folder: Path) -> None:
    before = path_of(folder, 2).read_bytes()
    for out, previous in ((path_of(folder, 2), None), (folder, path_of(folder, 1))):
        with pytest.raises(LedgerError, match="exists and is not replaced"):
            write_next_heads(url, out, SIGNER, previous)
    assert path_of(folder, 2).read_bytes() == before
