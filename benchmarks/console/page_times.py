"""``python -m benchmarks console``: seconds of every page and of its parts, for a large live book.

An endpoint with its monitor runs as a process of its own, over HTTP. Before each request all marks
move, so the endpoint has to value the book again, and the monitor evaluates meanwhile what the
moves reach. The target is a 95th percentile below 200 ms for every page and part.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
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
STEP_NANOSECONDS = 200_000_000
PAUSE_SECONDS = 0.05
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
                figures = _times(client, _Market(world), repeats)
            figures |= {f"overview_{n}_ms": v for n, v in asdict(first_load(server.url)).items()}
    return Result(
        "console",
        settings={
            "accounts": accounts,
            "days": DAYS,
            "repeats": repeats,
            "target_p95_ms": TARGET_MILLISECONDS,
            "pause_seconds": PAUSE_SECONDS,
            "note": "one client, over HTTP on the loopback interface; all marks move before each "
            "request; a part is what a page "
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


class _Market:
    """Marks of all symbols that move a little at every step."""

    def __init__(self, world: World) -> None:
        self._symbols = world.snapshot.features.symbols
        self._marks = world.snapshot.mark.copy()
        self._steps = np.random.default_rng(5)
        self._moment = world.snapshot.as_of

    def move(self, client: httpx.Client) -> None:
        """Post the marks of the next step."""
        self._moment += STEP_NANOSECONDS
        self._marks *= np.exp(self._steps.normal(0.0, 1e-4, len(self._marks)))
        ts = format_time(self._moment)
        quotes = [
            {"instrument": symbol + ending, "ts": ts, "mark": float(mark)}
            for symbol, mark in zip(self._symbols, self._marks, strict=True)
            for ending in ("", "-PERP")
        ]
        client.post("/v1/market/quotes", json={"quotes": quotes}).raise_for_status()


def _times(client: httpx.Client, market: _Market, repeats: int) -> dict[str, float]:
    """Percentiles by page and part, in milliseconds; each request finds a market that moved."""
    figures: dict[str, float] = {}
    for name, path in page_paths(lambda path: client.get(path).raise_for_status().json()).items():
        page = client.get(path).raise_for_status().text
        parts = sorted({first or second for first, second in _PART.findall(page)})
        for part in (None, *parts):
            headers = {} if part is None else {"X-Fragment": part}
            label = name if part is None else f"{name}_part_{part}"
            times = [_milliseconds(client, market, path, headers) for _ in range(repeats)]
            figures |= {
                f"{label}_p50_ms": float(np.median(times)),
                f"{label}_p95_ms": float(np.quantile(times, 0.95)),
            }
    return figures


def _milliseconds(
    client: httpx.Client, market: _Market, path: str, headers: dict[str, str]
) -> float:
    market.move(client)
    time.sleep(PAUSE_SECONDS)
    start = time.perf_counter()
    client.get(path, headers=headers).raise_for_status()
    return 1e3 * (time.perf_counter() - start)
