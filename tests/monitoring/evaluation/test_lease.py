"""The lease of the monitor: one holder, a token that fences off the ones before, a take-over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.errors import LedgerError
from monitoring.evaluation.lease import Lease, LeaseLostError, holder_of
from monitoring.evaluation.monitor import LEASE
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched


def test_one_process_holds_a_lease_and_another_takes_it_once_it_expires(ledger: Ledger) -> None:
    first, second = Lease(ledger, "job", 0.3), Lease(ledger, "job", 0.3)
    assert first.acquire()
    assert not second.acquire()
    assert holder_of(ledger, "job") is not None
    time.sleep(0.35)
    assert holder_of(ledger, "job") is None
    assert second.acquire()
    assert not first.acquire()


def test_a_holder_that_was_away_finds_its_token_fenced_off(ledger: Ledger) -> None:
    first, second = Lease(ledger, "job", 0.05), Lease(ledger, "job", 5.0)
    assert first.acquire()
    time.sleep(0.1)
    assert second.acquire()
    with pytest.raises(LeaseLostError, match="another process"), ledger.transaction() as connection:
        first.check(connection)
    assert not first.held
    with ledger.transaction() as connection:
        second.check(connection)


def test_a_released_lease_is_free_at_once(ledger: Ledger) -> None:
    first, second = Lease(ledger, "job"), Lease(ledger, "job")
    assert first.acquire()
    first.release()
    assert second.acquire()
    first.release()  # its own is gone: the other one's stays
    assert not Lease(ledger, "job").acquire()


def test_a_second_monitor_waits_and_goes_on_where_the_first_one_was_lost(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> None:
    first, second = (watched(market, ruleset, bundles, ledger) for _ in range(2))
    first.update(snapshot("a", 1, 3_000.0, BTC=0.1))
    first.settle()
    count = len(first.records())
    second.settle()
    assert not evaluates(second)
    assert len(first.records()) == count
    # The first one hangs: its lease runs out, and the second one takes over.
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET expires_at = 0")
    second.monitor._lease._renewed = 0.0
    second.settle()
    assert evaluates(second)
    written = len(first.records())
    first.marks(0.97, 60)
    first.update(snapshot("a", 2, 10.0, BTC=0.1))
    with pytest.raises(LeaseLostError):
        first.settle()
    assert len(first.records()) == written
    second.settle()
    assert len(first.records()) > written
    assert all(second.replay(record).verdict == "equal" for record in second.records())


def test_a_monitor_survives_a_ledger_that_fails_and_returns(
    market: SmallMarket,
    ruleset: RuleSet,
    bundles: Bundles,
    champion: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = watched(market, ruleset, bundles, ledger)
    w.update(snapshot("a", 1, 3_000.0, BTC=0.1))
    broken = threading.Event()
    append = w.monitor._log.append

    def failing(*arguments: object, **named: object) -> object:
        if broken.is_set():
            raise LedgerError("the disk is full")
        return append(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("monitoring.evaluation.monitor.RETRY_SECONDS", 0.02)
    monkeypatch.setattr(w.monitor._log, "append", failing)
    stop = threading.Event()
    thread = threading.Thread(target=w.monitor.run, args=(stop,))
    thread.start()
    try:
        _until(lambda: len(w.records()) >= 2)
        broken.set()
        w.update(snapshot("a", 2, 5.0, BTC=0.1))
        _until(lambda: w.monitor.state is None)
        count = len(w.records())
        broken.clear()
        _until(lambda: len(w.records()) >= count + 2)
    finally:
        stop.set()
        thread.join(10.0)
    assert not thread.is_alive()
    assert holder_of(ledger, LEASE) is None, "the lease is given back at the end"
    assert all(w.replay(record).verdict == "equal" for record in w.records())


def evaluates(w: Watched) -> bool:
    return w.monitor.state is not None


def _until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
