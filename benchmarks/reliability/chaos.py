"""``python -m benchmarks chaos``: enforcement on real prices while its process is killed.

The market of 1 to 10 April 2025 is posted hour by hour, with accounts of the reference population
and clients that answer calls and instructions by a seeded draw over their ids. The same is done
twice: with a monitor that runs undisturbed, and with one that is killed (SIGKILL) at random moments
and started again. Every record of calls, instructions and controls has to be there once, with the
same content; only what names an evaluation differs, as a start evaluates the book once more.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.measure import Result, write
from benchmarks.workloads.enforced_clients import EnforcedClients, Written
from benchmarks.workloads.real_span import Feed, RealSpan, real_span
from ledger.records import Record
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from pipelines.config.config import load_config

BEGIN = "2025-04-01T00:00:00Z"
"""Begin of the posted hours."""

_LONGEST_SECONDS = 30.0
_WRITTEN: tuple[Written, ...] = get_args(Written)
_KINDS = ("call", "instruction", "default_resources", "control")
_DIFFERS = ("evaluation", "trigger")
"""Fields that name the evaluation: a start makes one more, and numbers them otherwise."""

ROUNDING = 1e-9
"""Relative difference of amounts that counts as rounding."""

_CONFIG = """
[market]
bars = ["bars"]
interval = "1h"
[rules]
ruleset = "linear-tiers"
[serving]
clock = "market"
bundles = "bundles"
auth = "off"
[monitoring]
enabled = true
timer_seconds = 86400
[enforcement]
enabled = true
[ledger]
url = "sqlite:///ledger.db"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run left behind.

    Attributes
    ----------
    records:
        Content of each record of enforcement by its id, without the fields that may differ.
    events:
        How often each event occurred.
    late_hours:
        Longest time from a deadline to the step that processed it.
    seconds:
        How long the run took.
    bytes_per_account_day:
        Growth of the ledger by evaluations, calls and their rows.
    """

    records: Mapping[str, Any]
    events: Mapping[str, int]
    late_hours: float
    seconds: float
    bytes_per_account_day: float


class Monitor:
    """The monitor of a folder as a process, which is killed where it was drawn.

    Parameters
    ----------
    folder:
        With its configuration.
    kills:
        How often it is killed.
    steps:
        How many steps there will be.
    draw:
        Where and when.
    """

    def __init__(self, folder: Path, kills: int, steps: int, draw: np.random.Generator) -> None:
        self._folder, self._draw = folder, draw
        self._log = (folder / "monitor.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        drawn = zip(draw.integers(0, steps - 1, kills), draw.integers(0, 3, kills), strict=True)
        self._due = sorted((int(step), _WRITTEN[int(what)]) for step, what in drawn)
        self._step, self._busy, self._since = -1, 1.0, time.monotonic()

    def start(self) -> None:
        """Start it; the one before has ended."""
        command = [str(Path(sys.executable).with_name("margincast")), "monitor", "--config"]
        self._process = subprocess.Popen(
            [*command, str(self._folder / "margincast.toml")],
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"MARGINCAST__LOGGING__LEVEL": "warning"},
        )

    def written(self, what: Written) -> None:
        """Kill it at a random moment of the time that a step takes, where that is due.

        A kill that is due in a step without updates, or without commands, is done in the next one.
        """
        if what == "market":
            now = time.monotonic()
            self._step, self._busy, self._since = self._step + 1, now - self._since, now
        due = [one for one in self._due if one[0] < self._step or one == (self._step, what)]
        for one in due:
            time.sleep(float(self._draw.uniform(0.0, min(self._busy, _LONGEST_SECONDS))))
            self._kill()
            self.start()
            self._due.remove(one)

    def check(self) -> None:
        """Raise where it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            said = (self._folder / "monitor.log").read_text()[-2_000:]
            raise RuntimeError(f"the monitor ended: {said}")

    def _kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End it."""
        self._kill()
        self._log.close()


def run_span(span: RealSpan, accounts: int, kills: int, seed: int, folder: Path) -> Run:
    """Post the span once; `kills` times the monitor is killed and started again.

    Raises
    ------
    RuntimeError
        The monitor ended by itself, or a step was not evaluated in time.
    """
    folder.mkdir(parents=True)
    span.write_history(folder / "bars")
    (folder / "margincast.toml").write_text(_CONFIG)
    monitor = Monitor(folder, kills, len(span), np.random.default_rng([seed, kills]))
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(f"sqlite:///{folder}/ledger.db"))
        stack.callback(monitor.close)
        clients = EnforcedClients(ledger, span, seed, monitor)
        clients.open_accounts(accounts)
        before = _size(folder)
        feed = Feed(span, load_config(folder / "margincast.toml"), ledger)
        began = time.perf_counter()
        monitor.start()
        for row in range(len(span)):
            close = feed.post(row)
            clients.wait_for(row, close)
            clients.answer(row, close)
        seconds = time.perf_counter() - began
        records = {record.id: record for kind in _KINDS for record in ledger.records(kind)}
        size = (_size(folder) - before) / (accounts * len(span) / 24.0)
    return Run(
        {
            name: _content(record.payload) | {"as_of": record.as_of}
            for name, record in records.items()
        },
        dict(Counter(f"{r.kind}.{r.payload.get('event', '')}" for r in records.values())),
        max((_late(record) for record in records.values()), default=0.0),
        seconds,
        size,
    )


def compare(undisturbed: Run, disturbed: Run) -> dict[str, list[str]]:
    """Ids of records that are missing, in excess, or of another content.

    Amounts are equal up to `ROUNDING`: a start evaluates all accounts at once where a monitor that
    runs on begins with the urgent ones, and vector units round powers by the place in an array.
    """
    one, other = undisturbed.records, disturbed.records
    both = one.keys() & other.keys()
    return {
        "missing": sorted(one.keys() - other.keys()),
        "in_excess": sorted(other.keys() - one.keys()),
        "different": sorted(name for name in both if not _same(one[name], other[name])),
    }


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=1e-6)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def main(arguments: list[str]) -> None:
    """Run both, compare them, and write the result; ends with 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks chaos", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    span = april(given.days)
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            run_span(span, given.accounts, kills, given.seed, Path(folder) / str(kills))
            for kills in (0, given.kills)
        ]
    differs = compare(*runs)
    events = {f"events_{name}": float(count) for name, count in sorted(runs[0].events.items())}
    result = Result(
        "chaos",
        settings={
            "accounts": given.accounts,
            "kills": given.kills,
            "steps": len(span),
            "begin": BEGIN,
            "coins": len(span.symbols),
            "note": "the same real hours twice, undisturbed and with SIGKILL of the monitor",
        },
        medians={
            **events,
            **{f"records_{name}": float(len(ids)) for name, ids in differs.items()},
            "records": float(len(runs[0].records)),
            "latest_hours": max(run.late_hours for run in runs),
            "bytes_per_account_day": runs[0].bytes_per_account_day,
            "undisturbed_seconds": runs[0].seconds,
            "disturbed_seconds": runs[1].seconds,
        },
    )
    path = write(result)
    print(f"{result.name} -> {path.name}")
    for name, value in result.medians.items():
        print(f"  {name:<44} {value:>12.6g}")
    if any(differs.values()):
        for name, ids in differs.items():
            for found in ids[:3]:
                print(name, *(run.records.get(found) for run in runs), sep="\n    ")
        sys.exit("the records of the two runs differ")


def april(days: int) -> RealSpan:
    """The first days of April 2025, after 45 days of history."""
    end = format_time(parse_time(BEGIN) + days * 24 * HOUR)
    return real_span(BEGIN, end, days_before=45, coins=8)


def _content(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in _DIFFERS}


def _late(record: Record) -> float:
    """Hours from a deadline to the record of what was done about it; 0 of other records."""
    if record.payload.get("event") != "deadline_missed" or record.as_of is None:
        return 0.0
    due = [parse_time(text) for text in record.payload["deadlines"].values()]
    return max(0.0, (record.as_of - min(due)) / HOUR) if due else 0.0


def _size(folder: Path) -> int:
    with sqlite3.connect(folder / "ledger.db") as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)
