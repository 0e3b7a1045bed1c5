"""The live book in the ledger and in memory: restarts, followers, altered rows, many processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from ledger.following import ChainHead
from ledger.packing import pack, unpack
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import AlteredError, DataError
from market.sources.http import PositionIn
from monitoring.book import account_store, live_book
from monitoring.book.account_store import AccountStore
from monitoring.book.book_account import BookAccount, apply_update
from monitoring.book.live_book import LiveBook
from monitoring.book.messages import AccountUpdateIn, DepositIn, FillIn, SnapshotIn

NOW = 1_700_000_000_000_000_000


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as opened:
        yield opened


def stream(count: int, accounts: int = 7) -> list[AccountUpdateIn]:
    """Updates of some accounts in turn: a snapshot each, then trades, gaps and repeats."""
    updates: list[AccountUpdateIn] = []
    for i in range(count):
        name, number = f"desk/{i % accounts}", i // accounts + 1
        if number == 1:
            legs = [PositionIn("BTCUSDT-PERP", 1.0 + i, 100.0)]
            updates.append(AccountUpdateIn(name, 1, None, SnapshotIn(1_000.0 + i, legs)))
        elif i % 11 == 3:  # a gap, cured by a snapshot
            updates.append(AccountUpdateIn(name, number + 2, None, None, [DepositIn("USD", 1.0)]))
            updates.append(AccountUpdateIn(name, number, None, SnapshotIn(500.0 + i)))
        else:
            fill = FillIn("BTCUSDT-PERP", (-1.0) ** i * 0.1 * number, 100.0 + i, 0.01)
            updates.append(AccountUpdateIn(name, number, None, None, [fill]))
            if i % 5 == 0:
                updates.append(updates[-1])
    return updates


def contents(book: LiveBook) -> dict[str, BookAccount]:
    """All accounts of a book by id, as their segments hold them."""
    found: dict[str, BookAccount] = {}
    for segment in book.segments:
        accounts = segment.book.accounts()
        for row, account in enumerate(accounts):
            one = book.find(account.account_id)
            assert one is not None
            assert one.account == account
            assert one.sequence == segment.sequence[row]
            assert one.as_of == segment.as_of[row]
            assert one.in_sync is not bool(segment.out_of_sync[row])
            found[account.account_id] = one
    assert len(found) == len(book)
    return found


def expected(updates: Sequence[AccountUpdateIn]) -> dict[str, BookAccount]:
    known: dict[str, BookAccount] = {}
    for update in updates:
        after = apply_update(known.get(update.account_id), update, NOW).after
        if after is not None:
            known[update.account_id] = after
    return known


def loaded(ledger: Ledger) -> LiveBook:
    book = LiveBook(ledger)
    book.catch_up()
    return book


def test_a_follower_and_a_restart_hold_the_same_book(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_book, "SEGMENT_ACCOUNTS", 3)
    monkeypatch.setattr(account_store, "MOST_IN_RECORD", 4)
    store, follower, updates = AccountStore(ledger), LiveBook(ledger), stream(150)
    for start in range(0, len(updates), 13):
        store.apply(updates[start : start + 13], NOW, "desk")
        follower.catch_up()
    assert contents(follower) == contents(loaded(ledger)) == expected(updates)
    assert [len(segment.book) for segment in follower.segments] == [3, 3, 1]
    assert follower.head == store.head()
    assert list(contents(follower)) == list(contents(loaded(ledger))) == list(expected(updates))


def test_catching_up_names_what_changed_and_rebuilds_only_its_segment(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_book, "SEGMENT_ACCOUNTS", 3)
    store, book = AccountStore(ledger), LiveBook(ledger)
    store.apply(stream(7), NOW, "desk")
    assert len(book.catch_up()) == 7
    before, place = book.segments, book.place("desk/4")
    assert place is not None
    assert not book.catch_up()
    assert book.segments == before
    store.apply([AccountUpdateIn("desk/4", 2, None, None, [DepositIn("USD", 1.0)])], NOW, "desk")
    assert set(book.catch_up()) == {"desk/4"}
    assert [new is old for new, old in zip(book.segments, before, strict=True)] == [
        i != place[0] for i in range(3)
    ]
    assert book.place("desk/4") == place


def test_a_duplicate_leaves_no_record(ledger: Ledger) -> None:
    store = AccountStore(ledger)
    store.apply(stream(1), NOW, "desk")
    head = store.head()
    assert [one.status for one in store.apply(stream(1), NOW, "desk")] == ["duplicate"]
    assert store.head() == head


def test_the_records_alone_give_the_same_book(ledger: Ledger) -> None:
    store, updates = AccountStore(ledger), stream(90)
    store.apply(updates, NOW, "desk")
    replayed: dict[str, BookAccount] = {}
    for update, as_of in store.updates():
        after = apply_update(replayed.get(update.account_id), update, as_of).after
        assert after is not None
        replayed[update.account_id] = after
    assert replayed == contents(loaded(ledger))


def test_an_impossible_time_applies_nothing(ledger: Ledger) -> None:
    store = AccountStore(ledger)
    sound = stream(2)
    with pytest.raises(DataError, match="yesterday"):
        store.apply([*sound, AccountUpdateIn("b", 1, "yesterday", SnapshotIn(1.0))], NOW, "desk")
    assert store.head() == ChainHead()


def test_an_altered_row_is_found(ledger: Ledger) -> None:
    AccountStore(ledger).apply(stream(30), NOW, "desk")
    with ledger.transaction() as connection:
        query = text("SELECT state FROM accounts WHERE account_id = 'desk/3'")
        state = unpack(connection.execute(query).scalar_one()).replace(b'"cash":', b'"cash":1')
        connection.execute(
            text("UPDATE accounts SET state = :state WHERE account_id = 'desk/3'"),
            {"state": pack(state)},
        )
    with pytest.raises(AlteredError, match=r"place 3 of the live book.*was altered"):
        LiveBook(ledger).catch_up()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE accounts SET sequence = 99 WHERE account_id = 'desk/3'", "it was altered"),
        ("UPDATE accounts SET out_of_sync = 1 WHERE account_id = 'desk/3'", "it was altered"),
        ("UPDATE accounts SET state = update_sha256 WHERE account_id = 'desk/3'", "desk/3"),
        ("UPDATE accounts SET place = 9 WHERE account_id = 'desk/3'", "it was altered"),
        ("UPDATE accounts SET record_seq = 9 WHERE account_id = 'desk/3'", "it was altered"),
        ("DELETE FROM accounts WHERE account_id = 'desk/3'", "it was deleted"),
        (
            "INSERT INTO accounts SELECT 'desk/9', sequence, as_of, out_of_sync, state, "
            "update_sha256, record_seq, 7 FROM accounts WHERE account_id = 'desk/3'",
            "it was inserted",
        ),
    ],
)
def test_a_start_and_verification_find_rows_that_the_chain_does_not_cover(
    ledger: Ledger, statement: str, problem: str
) -> None:
    store = AccountStore(ledger)
    store.apply(stream(30), NOW, "desk")
    assert store.problems() == []
    with ledger.transaction() as connection:
        connection.execute(text(statement))
    (found,) = store.problems()
    assert problem in found
    with pytest.raises(AlteredError, match="it was altered or rows are missing"):
        LiveBook(ledger).catch_up()


def test_an_update_of_an_altered_row_does_not_hide_the_alteration(ledger: Ledger) -> None:
    store = AccountStore(ledger)
    store.apply([AccountUpdateIn("a", 1, None, SnapshotIn(5.0))], NOW, "desk")
    with ledger.transaction() as connection:
        query = text("SELECT state FROM accounts")
        state = unpack(connection.execute(query).scalar_one()).replace(b'"cash":', b'"cash":9')
        connection.execute(text("UPDATE accounts SET state = :state"), {"state": pack(state)})
    (result,) = store.apply(
        [AccountUpdateIn("a", 2, None, None, [DepositIn("USD", 1.0)])], NOW, "desk"
    )
    assert result.status == "applied"
    (found,) = store.problems()
    assert "update 2 was applied to a row" in found


def test_an_update_that_another_one_overtakes_is_applied_to_the_newer_row(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes between the computation of an outcome and its transaction."""
    store, other = AccountStore(ledger), AccountStore(ledger)
    store.apply([AccountUpdateIn("a", 1, None, SnapshotIn(5.0))], NOW, "desk")
    begin = ledger.transaction
    overtaking = [
        AccountUpdateIn("new", 1, None, SnapshotIn(1.0)),
        AccountUpdateIn("a", 2, None, None, [DepositIn("USD", 1.0)]),
    ]

    def overtaken() -> Any:
        monkeypatch.setattr(ledger, "transaction", begin)
        other.apply(overtaking, NOW, "other")
        return begin()

    monkeypatch.setattr(ledger, "transaction", overtaken)
    results = store.apply(
        [
            AccountUpdateIn("newer", 1, None, SnapshotIn(2.0)),
            AccountUpdateIn("a", 2, None, None, [DepositIn("USD", 3.0)]),
            AccountUpdateIn("a", 3, None, None, [DepositIn("USD", 7.0)]),
        ],
        NOW,
        "desk",
    )
    assert [one.status for one in results] == ["applied", "conflict", "applied"]
    book = loaded(ledger)
    assert {name: one.account.cash for name, one in contents(book).items()} == {
        "a": 13.0,
        "new": 1.0,
        "newer": 2.0,
    }
    assert book.place("newer") == (0, 2)
    assert store.problems() == []


def test_a_chain_that_was_cut_is_found(ledger: Ledger) -> None:
    AccountStore(ledger).apply(stream(7), NOW, "desk")
    book = loaded(ledger)
    with ledger.transaction() as connection:
        connection.execute(text("DELETE FROM records WHERE chain = 'accounts'"))
        connection.execute(text("DELETE FROM accounts"))
    AccountStore(ledger).apply(stream(1), NOW + 1, "desk")
    with pytest.raises(AlteredError, match="does not continue"):
        book.catch_up()


def test_verification_covers_the_updates(ledger: Ledger) -> None:
    AccountStore(ledger).apply(stream(30), NOW, "desk")
    assert verify(ledger.engine).intact
    with ledger.transaction() as connection:
        connection.execute(text("UPDATE records SET payload = :p"), {"p": pack(b"{}")})
    assert not verify(ledger.engine).intact


def _post(url: str, accounts: Sequence[str], count: int) -> None:
    with Ledger(url) as ledger:
        store = AccountStore(ledger)
        for number in range(1, count + 1):
            store.apply(
                [AccountUpdateIn(a, number, None, None, [DepositIn("USD", 1.0)]) for a in accounts],
                NOW,
                "desk",
            )


def test_processes_that_post_the_same_updates_apply_each_once(url: str) -> None:
    Ledger(url).close()
    spawn = multiprocessing.get_context("spawn")
    names = [f"a{i}" for i in range(20)]
    workers = [spawn.Process(target=_post, args=(url, names, 15)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Ledger(url) as ledger:
        book = contents(loaded(ledger))
        assert verify(ledger.engine).intact
        assert AccountStore(ledger).problems() == []
    assert {name: (one.account.cash, one.sequence) for name, one in book.items()} == dict.fromkeys(
        names, (15.0, 15)
    )


def _post_stream(url: str) -> None:
    with Ledger(url) as ledger:
        store = AccountStore(ledger)
        updates = stream(4_000)
        for start in range(0, len(updates), 5):
            store.apply(updates[start : start + 5], NOW, "desk")


@pytest.mark.parametrize("kills", [4])
def test_kills_in_the_middle_of_a_stream_give_the_same_book(tmp_path: Path, kills: int) -> None:
    """The sender begins again after every kill: what was applied is a duplicate then."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    Ledger(url).close()
    spawn = multiprocessing.get_context("spawn")
    rng = np.random.default_rng(5)
    killed = 0
    while True:
        worker = spawn.Process(target=_post_stream, args=(url,))
        worker.start()
        if killed < kills:
            with Ledger(url) as ledger:
                before = AccountStore(ledger).head().seq
                deadline = time.monotonic() + 60.0
                wanted = before + int(rng.integers(20, 60))
                while AccountStore(ledger).head().seq < wanted and time.monotonic() < deadline:
                    time.sleep(0.002)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            killed += 1
        worker.join(240)
        if worker.exitcode == 0:
            break
        assert worker.exitcode == -signal.SIGKILL
    assert killed == kills
    undisturbed = Ledger(f"sqlite:///{tmp_path}/undisturbed.db")
    _post_stream(f"sqlite:///{tmp_path}/undisturbed.db")
    with Ledger(url) as ledger:
        assert verify(ledger.engine).intact
        assert contents(loaded(ledger)) == contents(loaded(undisturbed)) == expected(stream(4_000))
    undisturbed.close()
