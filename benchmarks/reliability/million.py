"""``python -m benchmarks million``: a million decisions, kept, started from and verified."""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, write
from benchmarks.reliability.load import account
from benchmarks.reliability.scenarios import serve
from benchmarks.reliability.service import MARGINCAST, Service
from benchmarks.reliability.workspace import Workspace, make_workspace

BATCH = 100
ACCOUNTS = 50_000
KEY_HEADER = "Idempotency-Key"
_MARKS = (10_000, 100_000, 1_000_000)


def main(arguments: list[str]) -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks million", description=__doc__)
    parser.add_argument("--decisions", type=int, default=_MARKS[-1])
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument(
        "--folder", type=Path, help="where the ledger is written; default temporary"
    )
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/million.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        workspace = make_workspace(Path(folder) / "work")
        result = run(workspace, options.decisions, options.accounts)
    if options.keep:
        print(f"written to {write(result)}")


def run(workspace: Workspace, decisions: int, accounts: int) -> Result:
    """Score in calls of `BATCH` accounts, look at memory and file on the way, and start again."""
    figures: dict[str, float] = {}
    marks = [mark for mark in _MARKS if mark < decisions] + [decisions]
    with serve(workspace, workspace.sqlite) as service:
        figures["resident_at_start_megabytes"] = service.resident_bytes() / 1e6
        begun, made = time.perf_counter(), 0
        for mark in marks:
            _score(service, made, mark, accounts)
            made = mark
            figures[f"resident_at_{mark}_megabytes"] = service.resident_bytes() / 1e6
            figures[f"ledger_at_{mark}_megabytes"] = _size(workspace) / 1e6
            print(f"{mark}: {figures}", flush=True)
        figures["decisions_a_second"] = decisions / (time.perf_counter() - begun)
        if service.stop() not in (0, -15):
            raise RuntimeError(f"the endpoint did not stop in order: {service.log()[-1_000:]}")
    figures["bytes_a_decision"] = _size(workspace) / decisions
    begun = time.perf_counter()
    with serve(workspace, workspace.sqlite) as service:
        figures["start_on_the_ledger_seconds"] = time.perf_counter() - begun
        for name in ("first", "second"):
            begun = time.perf_counter()
            with closing(connect_to(service)) as connection:
                post([account("number-1", 0.1)], connection)
            figures[f"{name}_score_milliseconds"] = 1e3 * (time.perf_counter() - begun)
        figures["resident_after_restart_megabytes"] = service.resident_bytes() / 1e6
    figures["verify_seconds"] = _verify(workspace)
    settings = {"decisions": decisions, "accounts": accounts, "accounts_a_call": BATCH}
    result = Result("million", settings=settings, medians=figures)
    for name, value in figures.items():
        print(f"{name:<36} {value:>12.5g}")
    return result


def _verify(workspace: Workspace) -> float:
    """Seconds of ``margincast ledger verify``, from the command to its end."""
    begun = time.perf_counter()
    subprocess.run(
        [MARGINCAST, "ledger", "verify"], cwd=workspace.folder, check=True, capture_output=True
    )
    return time.perf_counter() - begun


def _score(service: Service, made: int, until: int, accounts: int) -> None:
    """Decisions number `made` to `until`, each account in its turn."""
    draw = random.Random(made)  # noqa: S311 - positions
    with closing(connect_to(service)) as connection:
        while made < until:
            size = min(BATCH, until - made)
            names = [f"number-{(made + n) % accounts}" for n in range(size)]
            post([account(name, draw.uniform(0.01, 0.4)) for name in names], connection)
            made += size


def connect_to(service: Service) -> http.client.HTTPConnection:
    """A connection to an endpoint."""
    return http.client.HTTPConnection("127.0.0.1", service.port, timeout=120.0)


def post(
    accounts: list[dict[str, Any]],
    connection: http.client.HTTPConnection,
    key: str | None = None,
) -> None:
    """Score accounts in one call, under an idempotency key or none.

    Raises
    ------
    RuntimeError
        Not every one of them was decided on.
    """
    headers = {"Content-Type": "application/json"} | ({} if key is None else {KEY_HEADER: key})
    connection.request("POST", "/v1/score", json.dumps({"accounts": accounts}), headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200 or len(json.loads(answer)["decisions"]) != len(accounts):
        raise RuntimeError(f"a call was answered {response.status}: {answer[:500]!r}")


def _size(workspace: Workspace) -> int:
    """Bytes of the database and of its write-ahead log."""
    database = workspace.database
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))
