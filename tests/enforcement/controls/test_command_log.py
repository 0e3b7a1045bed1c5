"""The chain of commands: order, one append for each key, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from enforcement.controls.commands import CommandLog, KeyedRequest
from ledger.idempotency import LedgerConflictError, RequestKey
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import parse_time

NOW = parse_time("2025-04-01T00:00:00Z")
PROGRAM = """
import sys
from enforcement.controls.commands import CommandLog, KeyedRequest
from ledger.idempotency import RequestKey
from ledger.store import Ledger
with Ledger(sys.argv[1]) as ledger:
    log = CommandLog(ledger)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(40):
        keyed = KeyedRequest(RequestKey("k", str(n)), "a" * 64)
        done = log.append({"command": "mode", "requester": "k"}, 1_000, keyed)
        print("repeated" if done.repeated else "new", flush=True)
"""


def address(ledger: Ledger) -> str:
    return ledger.engine.url.render_as_string(hide_password=False)


def test_commands_are_read_in_their_order(ledger: Ledger) -> None:
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


def test_a_key_appends_one_command(ledger: Ledger) -> None:
    with Ledger(address(ledger)) as other:
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


def test_threads_append_every_command_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        log = CommandLog(ledger)
        keyed = [KeyedRequest(RequestKey("k", str(n % 10)), "a" * 64) for n in range(40)]
        done = list(pool.map(lambda one: log.append({"command": "mode"}, NOW, one), keyed))
        assert sum(not one.repeated for one in done) == 10
        assert [c["seq"] for c in log.after(0)] == list(range(1, 11))


def test_processes_append_the_command_of_a_key_once(ledger: Ledger) -> None:
    """Two processes post the same keys at the same time, as two endpoints that a client repeats."""
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address(ledger)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300)[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert [len(lines) for lines in said] == [40, 40]
    assert sum(lines.count("new") for lines in said) == 40
    found = list(CommandLog(ledger).after(0))
    assert [c["seq"] for c in found] == list(range(1, 41))
    assert len({c["command_id"] for c in found}) == 40
    assert verify(ledger.engine).intact
