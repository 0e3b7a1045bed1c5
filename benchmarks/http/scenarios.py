"""What is measured beside the closed loop: each scenario on servers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.desk import Desk, batches, score_on_one_core
from benchmarks.http import closed_loop, memory, open_loop, start_up
from benchmarks.http.contenders import (
    BIN,
    NAMES,
    READY_SECONDS,
    Contender,
    contenders,
    count_decisions,
    post,
    serve_command,
    write_lines,
)
from benchmarks.http.process import Command, running
from benchmarks.http.world import World, score_bodies
from benchmarks.http.wrk import Target
from benchmarks.workloads.sample_book import sample, write_model
from margin.rules.ruleset import load_ruleset
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster

Numbers = dict[str, float | dict[str, float]]

ACCOUNTS_A_CALL = 1_000
AUTH_CONNECTIONS = 8
WORKER_CONNECTIONS = (8, 32)
_BOOK_RUNS = 3


@dataclass(frozen=True)
class Options:
    """How long and how much is measured.

    Attributes
    ----------
    rounds:
        Of the closed loops.
    rate, open_loop_seconds:
        Of the open loop, in requests a second.
    calls:
        Of a thousand accounts.
    book_accounts:
        Scored in process.
    starts:
        Of the endpoint, in each warm case.
    decisions:
        Over which memory is watched.
    """

    rounds: closed_loop.Rounds
    rate: int
    open_loop_seconds: int
    calls: int
    book_accounts: int
    starts: int
    decisions: int


@dataclass(frozen=True)
class Bench:
    """What a scenario works with: world, cores, options, and where progress goes."""

    world: World
    server_core: int
    load_core: int
    options: Options
    log: Callable[[str], None]


def one_account_a_call(bench: Bench) -> dict[str, dict[str, dict[str, float]]]:
    """Margincast and its peers in turn, one account or row a call."""
    with contenders(bench.world, NAMES, bench.server_core) as servers:
        return closed_loop.measure(servers, bench.options.rounds, bench.load_core, log=bench.log)


def constant_rate(bench: Bench) -> Numbers:
    """Latency at a constant rate; every answer must be on record."""
    options = bench.options
    ledger = bench.world.folder / "open-loop.db"
    with running(serve_command(bench.world, ledger), [bench.server_core]) as server:
        server.wait(READY_SECONDS)
        bodies = score_bodies(bench.world)
        requests = [open_loop.http_request("/v1/score", body) for body in bodies]
        address = ("127.0.0.1", server.port)
        with _on_core(bench.load_core):
            open_loop.send_at_rate(address, requests[: options.rate], options.rate)
            before = count_decisions(ledger)
            total = options.rate * options.open_loop_seconds
            sent = [requests[i % len(requests)] for i in range(total)]
            start = server.cpu_seconds()
            outcome = open_loop.send_at_rate(address, sent, options.rate)
            cpu = server.cpu_seconds() - start
        recorded = count_decisions(ledger) - before
    if recorded != total or len(outcome.latency_ms) != total:
        raise RuntimeError(
            f"{total} calls were sent, {len(outcome.latency_ms)} answered and {recorded} recorded"
        )
    return {"rate": options.rate, **outcome.figures(), "cpu_ms": 1e3 * cpu / total}


def many_accounts_a_call(bench: Bench) -> Numbers:
    """Calls of `ACCOUNTS_A_CALL` accounts, one after the other, every decision recorded."""
    ledger = bench.world.folder / "large.db"
    accounts, calls = bench.world.accounts, bench.options.calls
    bodies = [
        json.dumps({"accounts": [accounts[(first + i) % len(accounts)] for i in range(size)]})
        for size in [min(ACCOUNTS_A_CALL, len(accounts))]
        for first in range(0, size * (calls + 1), size)
    ]
    with running(serve_command(bench.world, ledger), [bench.server_core]) as server:
        server.wait(READY_SECONDS)
        post(f"{server.url}/v1/score", bodies[0])
        cpu, seconds, answered = server.cpu_seconds(), [], 0
        for body in bodies[1:]:
            start = time.perf_counter()
            answered += len(post(f"{server.url}/v1/score", body)["decisions"])
            seconds.append(time.perf_counter() - start)
        cpu = server.cpu_seconds() - cpu
    return {
        "accounts_per_call": answered / calls,
        "accounts_per_second": answered / calls / float(np.median(seconds)),
        "accounts_per_cpu_second": answered / cpu,
        "call_ms": 1e3 * float(np.median(seconds)),
    }


def in_process(bench: Bench) -> Numbers:
    """A book in this process on one core: with the search for the level, and scored only."""
    ruleset = load_ruleset("linear-tiers")
    data = sample(bench.options.book_accounts)
    with TemporaryDirectory() as folder, _on_core(bench.server_core):
        sha256, _ = write_model(Path(folder), data, ruleset)
        model = Forecaster(load_bundle(Path(folder) / sha256))
        desk = Desk(data.snapshot, ruleset, model)
        score_on_one_core(desk, data.book)
        cpu = time.process_time()
        runs = [score_on_one_core(desk, data.book)[1] for _ in range(_BOOK_RUNS)]
        cpu = time.process_time() - cpu
    margins, features, scores, _ = np.median(runs, axis=0).tolist()
    accounts = len(data.book)
    return {
        "accounts": accounts,
        "batches": len(batches(data.book)),
        "with_search_per_second": accounts / float(np.median(np.sum(runs, axis=1))),
        "with_search_per_cpu_second": accounts * _BOOK_RUNS / cpu,
        "scored_only_per_second": accounts / (margins + features + scores),
    }


def auth(bench: Bench) -> Numbers:
    """Keys on against off, in turn."""
    world = bench.world
    ledgers = {"off": world.folder / "auth-off.db", "keys": world.folder / "auth-keys.db"}
    bodies = write_lines(world.folder / "auth.txt", score_bodies(world))
    headers = {"off": (), "keys": (f"Authorization: Bearer {_new_key(world, ledgers['keys'])}",)}
    commands = {mode: serve_command(world, ledger, auth=mode) for mode, ledger in ledgers.items()}
    with _served(commands, [bench.server_core], bodies, ledgers) as servers:
        turns = closed_loop.measure(
            [replace(s, target=replace(s.target, headers=headers[s.name])) for s in servers],
            bench.options.rounds,
            bench.load_core,
            [AUTH_CONNECTIONS],
            bench.log,
        )
    off, keys = (turns[mode][str(AUTH_CONNECTIONS)] for mode in ("off", "keys"))
    return {"off": off, "keys": keys, "keys_over_off_rps": keys["rps"] / off["rps"]}


def two_workers(bench: Bench) -> Numbers | None:
    """Two workers against one, both allowed on both cores; None where there are no workers yet.

    The load shares the second core, so the ratio is a lower bound of what two cores give.
    """
    usage = subprocess.run(
        [BIN / "margincast", "serve", "--help"], capture_output=True, text=True, check=True
    )
    if "--workers" not in usage.stdout:
        return None
    world = bench.world
    names = {"1": world.folder / "one-worker.db", "2": world.folder / "two-workers.db"}
    bodies = write_lines(world.folder / "workers.txt", score_bodies(world))
    commands = {
        number: _with_arguments(serve_command(world, ledger), "--workers", number)
        for number, ledger in names.items()
    }
    with _served(commands, [bench.server_core, bench.load_core], bodies, names) as servers:
        turns = closed_loop.measure(
            servers, bench.options.rounds, bench.load_core, WORKER_CONNECTIONS, bench.log
        )
    return {
        f"{workers}_workers_{connections}_connections": figures
        for workers, by_connections in turns.items()
        for connections, figures in by_connections.items()
    }


def start(bench: Bench) -> dict[str, dict[str, float]]:
    """Start to ready, and the first score after it."""
    return start_up.measure(bench.world, bench.server_core, bench.options.starts)


def memory_use(bench: Bench) -> Numbers:
    """Memory over many decisions."""
    return dict(
        memory.measure(
            bench.world,
            bench.server_core,
            bench.load_core,
            bench.options.decisions,
            bench.log,
        )
    )


@contextmanager
def _served(
    commands: dict[str, Command], cores: list[int], bodies: Path, ledgers: dict[str, Path]
) -> Iterator[list[Contender]]:
    """Endpoints of Margincast, paused, named by their keys."""
    with ExitStack() as stack:
        servers = []
        for name, command in commands.items():
            server = stack.enter_context(running(command, cores))
            server.wait(READY_SECONDS)
            server.pause()
            target = Target(server.url, "/v1/score", bodies)
            count = partial(count_decisions, ledgers[name])
            servers.append(Contender(name, server, target, count))
        yield servers


def _new_key(world: World, ledger: Path) -> str:
    """A key of the endpoint on this ledger, with the scope to score."""
    arguments = ["keys", "add", "--scopes", "score", "--config", str(world.config)]
    done = subprocess.run(
        [BIN / "margincast", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MARGINCAST__LEDGER__URL": f"sqlite:///{ledger}"},
    )
    return done.stdout.split()[-1]


def _with_arguments(command: Command, *more: str) -> Command:
    return replace(command, arguments=[*command.arguments, *more])


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """This process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [core])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
