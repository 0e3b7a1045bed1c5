"""The chain of commands: order, one append for each key, several processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from enforcement.controls.commands import CommandLog, KeyedRequest
from ledger.idempotency import LedgerConflictError, RequestKey
from ledger.store import Ledger
from market.core.clock import parse_time

NOW = parse_time("2025-04-01T00:00:00Z")


def test_commands_are_read_in_their_order(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        log = CommandLog(ledger)
        assert (log.newest(), list(log.after(0))) == (0, [])
        first = log.append({"command": "mode", "requester": "k1"}, NOW)
        second = log.append({"command": "approve", "requester": "k2"}, NOW)
        found = list(log.after(0))
        assert [(c["seq"], c["command_id"], c["command"]) for c in found] == [
            (1, first.command_id, "mode"),
            (2, second.command_id, "approve"),
        ]
        assert found[0]["time"] == "2025-04-01T00:00:00Z"
        assert [c["seq"] for c in log.after(1)] == [2]
        assert list(log.after(log.newest())) == []


def test_a_key_appends_one_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger(url) as ledger, Ledger(url) as other:
        keyed = KeyedRequest(RequestKey("k1", "once"), "a" * 64)
        first = CommandLog(ledger).append({"command": "mode"}, NOW, keyed)
        again = CommandLog(other).append({"command": "mode"}, NOW, keyed)
        assert (first.repeated, again.repeated) == (False, True)
        assert first.command_id == again.command_id
        with pytest.raises(LedgerConflictError):
            CommandLog(other).append({"command": "mode"}, NOW, KeyedRequest(keyed.key, "b" * 64))
        same_key_of_another = KeyedRequest(RequestKey("k2", "once"), "b" * 64)
        assert not CommandLog(other).append({"command": "mode"}, NOW, same_key_of_another).repeated
        assert CommandLog(ledger).newest() == 2


def test_threads_append_every_command_once(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger, ThreadPoolExecutor(4) as pool:
        log = CommandLog(ledger)
        keyed = [KeyedRequest(RequestKey("k", str(n % 10)), "a" * 64) for n in range(40)]
        done = list(pool.map(lambda one: log.append({"command": "mode"}, NOW, one), keyed))
        assert sum(not one.repeated for one in done) == 10
        assert [c["seq"] for c in log.after(0)] == list(range(1, 11))
