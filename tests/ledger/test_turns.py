"""Turns of writers to one SQLite database: between processes, between threads, with an end."""

from __future__ import annotations

import fcntl
import multiprocessing
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import BusyError, LedgerError
from market.core.file_lock import exclusive_lock
from tests.waiting import WAIT_SECONDS, wait_for

APPENDS = 150


def _append_without_pause(url: str, chain: str, order: Any) -> None:
    with Ledger(url, chain=chain) as ledger:
        order.wait(300.0)
        for number in range(APPENDS):
            ledger.append([Entry("decision", {"n": number})])


def test_two_processes_that_never_pause_both_get_their_turns(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    Ledger(url).close()
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    processes = [
        context.Process(target=_append_without_pause, args=(url, chain, together))
        for chain in ("one", "two")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300.0)
        assert process.exitcode == 0
    with Ledger(url) as ledger:
        chains = [record.chain for record in ledger.records("decision")]
        assert verify(ledger.engine).intact
    assert len(chains) == 2 * APPENDS
    last_of_first = max(i for i, chain in enumerate(chains) if chain == chains[0])
    others_before = sum(chain != chains[0] for chain in chains[:last_of_first])
    assert others_before > APPENDS // 3, "no process waits until the other one is done"


def test_a_turn_that_does_not_come_ends_in_an_error_and_blocks_nobody_later(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        second = ledger.transaction(wait_seconds=0.05)
        with ledger.transaction(), pytest.raises(LedgerError, match=r"for over 0\.05 s"):
            second.__enter__()
        # The one that gave up is handed the lock late, and gives it back.
        for number in range(3):
            ledger.append([Entry("decision", {"n": number})])


def test_threads_take_turns_as_well(tmp_path: Path) -> None:
    path, inside, most = f"{tmp_path}/file.lock", [0], [0]

    def work() -> None:
        for _ in range(20):
            with exclusive_lock(path, WAIT_SECONDS):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        (tmp_path / "ledger.db.lock").unlink()
        (tmp_path / "ledger.db.lock").mkdir()
        with pytest.raises(LedgerError, match=r"ledger\.db\.lock' cannot be opened"):
            ledger.append([Entry("decision", {})])


def lock_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "file-lock"}


def descriptors(path: str) -> int:
    """How many this process has of a file; others come and go with the tests before."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(descriptor.readlink()) == path
    return found


def test_waits_that_are_given_up_leave_no_more_than_waited_together(tmp_path: Path) -> None:
    path, before = f"{tmp_path}/file.lock", lock_threads()

    def wait() -> None:
        with pytest.raises(BusyError), exclusive_lock(path, 0.01):
            pass

    with exclusive_lock(path, WAIT_SECONDS):
        for _ in range(30):
            wait()
        assert len(lock_threads() - before) == 1
        assert descriptors(path) == 2
        together = [threading.Thread(target=wait) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert len(lock_threads() - before) <= 3
        waited = threading.Thread(target=lambda: _hold(path))
        waited.start()  # takes a given-up wait over
        time.sleep(0.05)
    waited.join(WAIT_SECONDS)
    assert not waited.is_alive()
    with exclusive_lock(path, WAIT_SECONDS):
        pass
    wait_for(
        lambda: not lock_threads() - before and not descriptors(path),
        "given-up waits end once the lock is free",
    )


def _hold(path: str) -> None:
    with exclusive_lock(path, WAIT_SECONDS):
        time.sleep(0.01)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_lock_that_the_system_refuses_is_an_error_and_closes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    def refuse(_: int, how: int) -> None:
        if blocking and how & fcntl.LOCK_NB:
            raise BlockingIOError
        raise OSError("no locks available")

    path = f"{tmp_path}/file.lock"
    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match="no locks available"),
        exclusive_lock(path, WAIT_SECONDS),
    ):
        pass
    wait_for(lambda: not descriptors(path))
