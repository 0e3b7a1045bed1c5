"""``python -m benchmarks chaos``: enforcement on real prices while its process is killed.

The market of 1 to 10 April 2025 is posted hour by hour, with accounts of the reference population
and clients that answer calls and instructions by a seeded draw over their ids. The same is done
twice: with a monitor that runs undisturbed, and with one that is killed (SIGKILL) at random moments
and started again. Every record of calls, instructions and controls has to be there once, with the
same content; only what names an evaluation differs, as a start evaluates the book once more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.enforcement.clients import EnforcedClients, Written
from benchmarks.enforcement.deadline_delays import longest_delay
from benchmarks.enforcement.record_comparison import compare, find
from benchmarks.measure import Result, write
from benchmarks.workloads.real_span import Feed, RealSpan, real_span
from ledger.store import Ledger
from market.core.clock import HOUR, format_time, parse_time
from pipelines.config.config import load_config

BEGIN = "2025-04-01T00:00:00Z"
"""Begin of the posted hours."""

_LONGEST_SECONDS = 30.0
_WRITTEN: tuple[Written, ...] = get_args(Written)
_LEDGER = "ledger.db"
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
    ledger:
        File of its ledger.
    seconds:
        How long it took.
    bytes_per_account_day:
        Growth of the ledger by evaluations, calls and their rows.
    """

    ledger: Path
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
        ledger = stack.enter_context(Ledger(f"sqlite:///{folder / _LEDGER}"))
        stack.callback(monitor.close)
        clients = EnforcedClients(ledger, span, seed, monitor)
        clients.open_accounts(accounts)
        before = _size(folder / _LEDGER)
        feed = Feed(span, load_config(folder / "margincast.toml"), ledger)
        began = time.perf_counter()
        monitor.start()
        for row in range(len(span)):
            close = feed.post(row)
            clients.wait_for(row, close)
            clients.answer(row, close)
        seconds = time.perf_counter() - began
    path = folder / _LEDGER
    growth = (_size(path) - before) / (accounts * len(span) / 24.0)
    return Run(path, seconds, growth)


def run_both(span: RealSpan, accounts: int, kills: int, seed: int, folder: Path) -> tuple[Run, Run]:
    """The undisturbed run and the disturbed one, at once; raises as `run_span`.

    They are processes, not threads: pandas changes the warning filters of the whole process.
    """
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        undisturbed = pool.submit(run_span, span, accounts, 0, seed, folder / "undisturbed")
        disturbed = pool.submit(run_span, span, accounts, kills, seed, folder / "disturbed")
        return undisturbed.result(), disturbed.result()


def main(arguments: list[str]) -> None:
    """Run both, compare them, and write the result; ends with 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks chaos", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    span = april(given.days)
    with tempfile.TemporaryDirectory() as name:
        runs = run_both(span, given.accounts, given.kills, given.seed, Path(name))
        found = compare(*(run.ledger for run in runs))
        events = {f"events_{kind}": float(count) for kind, count in sorted(found.events.items())}
        result = Result(
            "chaos",
            settings={
                "accounts": given.accounts,
                "kills": given.kills,
                "steps": len(span),
                "begin": BEGIN,
                "coins": len(span.symbols),
                "note": "the same real hours twice at once, undisturbed and with SIGKILL",
            },
            medians={
                **events,
                "records": float(found.records),
                "records_missing": float(len(found.missing)),
                "records_in_excess": float(len(found.in_excess)),
                "records_different": float(len(found.different)),
                "longest_delay_hours": max(longest_delay(run.ledger) for run in runs),
                "bytes_per_account_day": runs[0].bytes_per_account_day,
                "undisturbed_seconds": runs[0].seconds,
                "disturbed_seconds": runs[1].seconds,
            },
        )
        path = write(result)
        print(f"{result.name} -> {path.name}")
        for measured, value in result.medians.items():
            print(f"  {measured:<44} {value:>12.6g}")
        for kind, ids in found.differs.items():
            for record_id in ids[:3]:
                print(kind, *(find(run.ledger, record_id) for run in runs), sep="\n    ")
    if found.differs:
        sys.exit("the records of the two runs differ")


def april(days: int) -> RealSpan:
    """The first days of April 2025, after 45 days of history."""
    end = format_time(parse_time(BEGIN) + days * 24 * HOUR)
    return real_span(BEGIN, end, days_before=45, coins=8)


def _size(ledger: Path) -> int:
    with sqlite3.connect(ledger) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)
