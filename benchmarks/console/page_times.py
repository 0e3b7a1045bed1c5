"""``python -m benchmarks console``: seconds of every page and of its parts, for a large live book.

An endpoint with its monitor runs as a process of its own, over HTTP. While pages are timed the
market moves: every second all marks change, so the endpoint values the book again and the monitor
evaluates what the moves reach. The target is a 95th percentile below 200 ms for every page and
part.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.console.first_load import first_load
from benchmarks.console.page_paths import page_paths
from benchmarks.http.contenders import READY_SECONDS, serve_command
from benchmarks.http.process import Command, choose_cores, running
from benchmarks.http.world import World, make_world
from benchmarks.measure import Result, write
from market.core.clock import format_time

ACCOUNTS, DAYS, POPULATION = 100_000, 60, 4_000
TARGET_MILLISECONDS = 200.0
MARK_SECONDS = 1.0
_BATCH = 10_000
_WAIT_SECONDS = 600.0
_PART = re.compile(r'id="([\w-]+)"[^>]*data-refresh|data-part="([\w-]+)"')


def main(argv: Sequence[str]) -> None:
    """Measure and write ``results/console.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks console", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--repeats", type=int, default=60, help="requests for each page and part")
    given = parser.parse_args(argv)
    result = run(given.accounts, given.repeats)
    print(write(result).name)
    for name, value in result.medians.items():
        print(f"  {name:<44} {value:>12.4g}")
    tails = {n: v for n, v in result.medians.items() if n.endswith("_p95_ms")}
    slow = [name for name, value in tails.items() if value > TARGET_MILLISECONDS]
    print(f"above {TARGET_MILLISECONDS:g} ms: {', '.join(slow) or 'none'}")


def run(accounts: int, repeats: int) -> Result:
    """Time every page of a book with so many accounts."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), days=DAYS, accounts=POPULATION)
        plain = serve_command(world, world.folder / "console.db")
        live = {f"MARGINCAST__{name}__ENABLED": "true" for name in ("MONITORING", "ENFORCEMENT")}
        command = Command(plain.arguments, {**plain.environment, **live}, plain.folder, plain.ready)
        with running(command, choose_cores()) as server:
            server.wait(READY_SECONDS)
            with httpx.Client(base_url=server.url, timeout=READY_SECONDS) as client:
                _fill(client, world, accounts)
                with _moving_market(server.url, world):
                    figures = _times(client, repeats)
            figures |= {f"overview_{n}_ms": v for n, v in asdict(first_load(server.url)).items()}
    return Result(
        "console",
        settings={
            "accounts": accounts,
            "days": DAYS,
            "repeats": repeats,
            "target_p95_ms": TARGET_MILLISECONDS,
            "mark_seconds": MARK_SECONDS,
            "note": "one client, over HTTP on the loopback interface; a part is what a page "
            "fetches again; of the browser's first load the median, with an empty cache",
        },
        medians=figures,
    )


def _fill(client: httpx.Client, world: World, accounts: int) -> None:
    """Post the population over and over under new ids, in other sizes, and wait for the monitor."""
    sizes = np.exp(np.random.default_rng(7).normal(0.0, 1.0, accounts))
    updates: list[dict[str, Any]] = []
    for number in range(accounts):
        message = world.accounts[number % len(world.accounts)]
        updates.append(
            {
                "account_id": f"client-{number:06d}",
                "sequence": 1,
                "snapshot": _scaled(message, float(sizes[number])),
            }
        )
        if len(updates) == _BATCH or number == accounts - 1:
            client.post("/v1/accounts/updates", json={"updates": updates}).raise_for_status()
            updates.clear()
    deadline = time.monotonic() + _WAIT_SECONDS
    while _evaluated(client) < accounts:
        if time.monotonic() > deadline:
            raise SystemExit(f"the monitor did not evaluate the book within {_WAIT_SECONDS:g} s")
        time.sleep(1.0)


def _scaled(account: dict[str, Any], size: float) -> dict[str, Any]:
    legs = [{**leg, "quantity": leg["quantity"] * size} for leg in account["positions"]]
    held = [{**one, "amount": one["amount"] * size} for one in account["collateral"]]
    return {"cash": account["cash"] * size, "positions": legs, "collateral": held}


def _evaluated(client: httpx.Client) -> int:
    answer = client.get("/v1/accounts", params={"limit": 1, "sort": "deposit_to_meet"})
    if answer.status_code != httpx.codes.OK:
        return 0
    content = answer.json()
    return int(content["total"]) if content["accounts"] and content["evaluated_at"] else 0


@contextmanager
def _moving_market(url: str, world: World) -> Iterator[None]:
    """Post new marks of all symbols every `MARK_SECONDS`, until the block ends.

    Raises
    ------
    httpx.HTTPStatusError
        The endpoint refused some.
    """
    symbols, marks = world.snapshot.features.symbols, world.snapshot.mark.copy()
    steps = np.random.default_rng(5)
    stop = threading.Event()

    def post() -> None:
        moment = world.snapshot.as_of
        with httpx.Client(base_url=url, timeout=READY_SECONDS) as client:
            while not stop.wait(MARK_SECONDS):
                moment += int(MARK_SECONDS * 1e9)
                marks[:] *= np.exp(steps.normal(0.0, 1e-4, len(marks)))
                time_text = format_time(moment)
                quotes = [
                    {"instrument": name + ending, "ts": time_text, "mark": float(mark)}
                    for name, mark in zip(symbols, marks, strict=True)
                    for ending in ("", "-PERP")
                ]
                client.post("/v1/market/quotes", json={"quotes": quotes}).raise_for_status()

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        try:
            yield
        finally:
            stop.set()
        posting.result()


def _times(client: httpx.Client, repeats: int) -> dict[str, float]:
    """Percentiles by page and part, in milliseconds."""
    figures: dict[str, float] = {}
    for name, path in page_paths(lambda path: client.get(path).raise_for_status().json()).items():
        page = client.get(path).raise_for_status().text
        parts = sorted({first or second for first, second in _PART.findall(page)})
        for part in (None, *parts):
            headers = {} if part is None else {"X-Fragment": part}
            label = name if part is None else f"{name}_part_{part}"
            times = [_milliseconds(client, path, headers) for _ in range(repeats)]
            figures |= {
                f"{label}_p50_ms": float(np.median(times)),
                f"{label}_p95_ms": float(np.quantile(times, 0.95)),
            }
    return figures


def _milliseconds(client: httpx.Client, path: str, headers: dict[str, str]) -> float:
    start = time.perf_counter()
    client.get(path, headers=headers).raise_for_status()
    return 1e3 * (time.perf_counter() - start)
