"""Turns of writers to one SQLite database: between processes, between threads, with an end."""

from __future__ import annotations

import fcntl
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import BusyError, LedgerError
from market.core.file_lock import exclusive_lock

APPENDS = 150


def _append_without_pause(url: str, chain: str, order: Any) -> None:
    with Ledger(url, chain=chain) as ledger:
        order.wait(60.0)
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
        process.join(120.0)
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
            with exclusive_lock(path, 30.0):
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


def lock_threads() -> int:
    return sum(thread.name == "file-lock" for thread in threading.enumerate())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_waits_that_are_given_up_leave_no_more_than_waited_together(tmp_path: Path) -> None:
    path = f"{tmp_path}/file.lock"
    threads, files = lock_threads(), descriptors()

    def wait() -> None:
        with pytest.raises(BusyError), exclusive_lock(path, 0.01):
            pass

    with exclusive_lock(path, 1.0):
        for _ in range(30):
            wait()
        assert lock_threads() == threads + 1
        assert descriptors() == files + 2
        together = [threading.Thread(target=wait) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert lock_threads() <= threads + 3
        waited = threading.Thread(target=lambda: _hold(path))
        waited.start()  # takes a given-up wait over
        time.sleep(0.05)
    waited.join(30.0)
    assert not waited.is_alive()
    with exclusive_lock(path, 30.0):
        pass
    deadline = time.monotonic() + 30.0
    while (lock_threads(), descriptors()) != (threads, files):
        assert time.monotonic() < deadline, "given-up waits end once the lock is free"
        time.sleep(0.01)


def _hold(path: str) -> None:
    with exclusive_lock(path, 30.0):
        time.sleep(0.01)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_lock_that_the_system_refuses_is_an_error_and_closes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    def refuse(_: int, how: int) -> None:
        if blocking and how & fcntl.LOCK_NB:
            raise BlockingIOError
        raise OSError("no locks available")

    files = descriptors()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match="no locks available"),
        exclusive_lock(f"{tmp_path}/file.lock", 30.0),
    ):
        pass
    deadline = time.monotonic() + 30.0
    while descriptors() != files:
        assert time.monotonic() < deadline
        time.sleep(0.01)
