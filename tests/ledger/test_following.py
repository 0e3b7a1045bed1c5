"""A chain that several processes append to by compare-and-swap, and follow."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ledger.following import ChainHead, ChainMovedError, SharedChain
from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import AlteredError
from tests.ledger.sqlite_steps import count_steps


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


def entry(number: int) -> Entry:
    return Entry("bars", {"n": number})


def test_only_who_holds_the_head_appends(url: str) -> None:
    with Ledger(url) as one, Ledger(url, chain="other") as two:
        a, b = SharedChain(one, "market"), SharedChain(two, "market")
        assert a.head() == ChainHead()
        (first,) = a.append(ChainHead(), [entry(1)])
        with pytest.raises(ChainMovedError, match="ends at record 1 and not at 0"):
            b.append(ChainHead(), [entry(2)])
        assert list(b.after(ChainHead())) == [first]
        more = b.append(ChainHead.of(first), [entry(2), entry(3)])
        assert [record.seq for record in more] == [2, 3]
        assert list(a.after(ChainHead.of(first))) == more
        assert list(a.after(ChainHead.of(more[-1]))) == []
        assert a.last("bars", ChainHead.of(more[0])) == more[0]
        assert a.last("quotes", a.head()) is None
        assert verify(one.engine).intact


def test_threads_that_swap_lose_no_entry_and_keep_one_order(url: str) -> None:
    moved: list[int] = []

    def work(number: int) -> None:
        with Ledger(url) as ledger:
            chain, head = SharedChain(ledger, "market"), ChainHead()
            for i in range(15):
                for _ in range(1_000):
                    try:
                        head = ChainHead.of(chain.append(head, [entry(number * 100 + i)])[-1])
                        break
                    except ChainMovedError:
                        moved.append(1)
                        for record in chain.after(head):
                            head = ChainHead.of(record)
                else:
                    pytest.fail("never its turn")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(url) as ledger:
        numbers = [r.payload["n"] for r in SharedChain(ledger, "market").after(ChainHead())]
        assert sorted(numbers) == sorted(100 * n + i for n in range(3) for i in range(15))
        assert verify(ledger.engine).intact
    assert moved, "they met"


def test_who_waits_is_woken_by_an_append_elsewhere(url: str) -> None:
    with Ledger(url) as one, Ledger(url) as two:
        a, b = SharedChain(one, "market"), SharedChain(two, "market")
        stop, followed, listens = threading.Event(), threading.Event(), threading.Event()

        def follow() -> None:
            with b.watch() as watch:
                listens.set()
                while not stop.is_set() and b.head().seq == 0:
                    watch.wait(stop)
                followed.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert listens.wait(120.0)
        time.sleep(0.05)
        assert not followed.is_set()
        a.append(ChainHead(), [entry(1)])
        assert followed.wait(120.0)
        stop.set()
        thread.join()


def test_a_chain_that_does_not_go_on_from_what_is_held_is_an_error(url: str) -> None:
    with Ledger(url) as ledger:
        chain = SharedChain(ledger, "market")
        chain.append(ChainHead(), [entry(n) for n in range(3)])
        with pytest.raises(AlteredError, match="does not continue from record 2"):
            list(chain.after(ChainHead(2, "0" * 64)))
        with pytest.raises(AlteredError, match="does not continue from record 9"):
            list(chain.after(ChainHead(9, "0" * 64)))


def test_many_records_are_read_in_pages(url: str) -> None:
    with Ledger(url) as ledger:
        chain = SharedChain(ledger, "market")
        chain.append(ChainHead(), [entry(n) for n in range(450)])
        assert [r.payload["n"] for r in chain.after(ChainHead())] == list(range(450))


def test_the_newest_record_is_found_without_reading_the_chain(tmp_path: Path) -> None:
    """A database that sorts a chain by another column than its key reads all of it first."""

    def steps(length: int) -> int:
        with Ledger(f"sqlite:///{tmp_path}/{length}.db") as ledger:
            chain = SharedChain(ledger, "market")
            written = chain.append(ChainHead(), [entry(n) for n in range(length)])
            assert chain.last("bars", ChainHead.of(written[9])) == written[9]
            return count_steps(ledger, lambda: chain.last("bars", chain.head()))

    assert steps(2_000) <= steps(20) + 10
