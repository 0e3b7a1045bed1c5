"""Two processes that write to one SQLite ledger without pause: by turns, and as SQLite waits.

`ledger.schema.writing` takes turns by a lock file; the comparison leaves the lock file out, so that
SQLite's busy handler alone decides who is next.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.ledger import decision
from benchmarks.measure import Result
from ledger import schema
from ledger.store import Ledger

PROCESSES, SECONDS, ROUNDS = 2, 4.0, 3


def run() -> Result:
    """Appends of both processes in the same time, and how long one of them waits at worst."""
    by_turns, by_sqlite = [], []
    for _ in range(ROUNDS):
        by_turns.append(_round(turns=True))
        by_sqlite.append(_round(turns=False))
    turns, busy = (np.median(rounds, axis=0).tolist() for rounds in (by_turns, by_sqlite))
    names = ("appends", "fewest_of_a_process", "median_milliseconds", "longest_milliseconds")
    return Result(
        "writers",
        settings={"processes": PROCESSES, "seconds": SECONDS, "rounds": ROUNDS},
        medians={
            **{f"lock_file_{name}": value for name, value in zip(names, turns, strict=True)},
            **{f"busy_handler_{name}": value for name, value in zip(names, busy, strict=True)},
        },
        ratios={
            "lock_file_over_busy_handler_appends": turns[0] / busy[0],
            "busy_handler_over_lock_file_longest": busy[3] / turns[3],
        },
    )


def _round(*, turns: bool) -> list[float]:
    """Appends of both, the fewest of one, and median and longest duration in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with Ledger(url) as ledger:
            market = ledger.put("market", {"closes": list(range(50))})
        context = multiprocessing.get_context("spawn")
        begin = time.time() + 3.0  # both have started by then
        with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
            jobs = [
                pool.submit(_write, url, f"writer-{i}", market, begin, turns)
                for i in range(PROCESSES)
            ]
            seconds = [job.result() for job in jobs]
    durations = 1e3 * np.concatenate(seconds)
    fewest = min(len(of_one) for of_one in seconds)
    return [float(len(durations)), fewest, float(np.median(durations)), float(durations.max())]


def _write(url: str, chain: str, market: str, begin: float, turns: bool) -> list[float]:
    """Append one decision after the other; seconds of each."""
    durations: list[float] = []
    take_turn = schema._take_turn if turns else lambda *_: None
    with Ledger(url, chain) as ledger, mock.patch.object(schema, "_take_turn", take_turn):
        time.sleep(max(0.0, begin - time.time()))
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            start = time.perf_counter()
            ledger.append([decision(len(durations), market)])
            durations.append(time.perf_counter() - start)
    return durations
