"""Faults under load, each with the figures that say what came of it."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.evidence import Evidence, examine
from benchmarks.reliability.load import Load, Outcome, Plan, at_each
from benchmarks.reliability.postgres import Cluster
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import Workspace
from models.bundle.pointer import CHAMPION, promote, write_pointer

_LEDGER = "MARGINCAST__LEDGER__URL"
_FELT_SECONDS = 120.0
_SHIFTED_CLOCK = Path(__file__).parent / "shifted_clock"


@dataclass(frozen=True)
class Found:
    """What clients saw and what the ledger holds."""

    outcome: Outcome
    evidence: Evidence


def serve(
    workspace: Workspace, url: str, *options: str, variables: Mapping[str, str] | None = None
) -> Service:
    """An endpoint on a ledger, ready."""
    settings = {_LEDGER: url, **(variables or {})}
    return Service(workspace.folder, *options, variables=settings).wait()


def kills(workspace: Workspace, url: str, decisions: int, count: int, seed: int) -> Found:
    """``kill -9`` of the service under load, so many times, and a new start each time."""
    plan = Plan(decisions=decisions, seed=seed)
    rng = random.Random(seed)  # noqa: S311 - moments of kills
    with serve(workspace, url) as service:

        def kill(_: int) -> None:
            time.sleep(rng.uniform(0.0, 0.05))
            service.kill()
            service.restart()

        with Load(service.port, plan) as load:
            at_each(load, count, decisions, kill, rng)
            outcome = load.finish()
        service.wait()
    return Found(outcome, examine(url, outcome))


def database_faults(
    workspace: Workspace, cluster: Cluster, url: str, decisions: int, seed: int
) -> Found:
    """PostgreSQL restarted fast, stopped at once, and killed, in turn, under load."""

    def restart() -> None:
        cluster.stop()
        cluster.start()

    def stop_at_once() -> None:
        cluster.stop_at_once()
        cluster.start()

    def kill() -> None:
        cluster.kill()
        cluster.start()

    faults = (restart, stop_at_once, kill)
    return under_load(workspace, url, decisions, faults, Plan(decisions=decisions, seed=seed))


def under_load(
    workspace: Workspace,
    url: str,
    decisions: int,
    faults: tuple[Callable[[], None], ...],
    plan: Plan,
    variables: Mapping[str, str] | None = None,
) -> Found:
    """Faults of anything beside the service, spread over so many decisions; it runs on."""
    rng = random.Random(plan.seed)  # noqa: S311 - moments of faults
    with serve(workspace, url, variables=variables) as service:
        begun = service.process.pid
        with Load(service.port, plan) as load:
            at_each(load, len(faults), decisions, lambda number: faults[number](), rng)
            outcome = load.finish()
        service.wait()
        if service.process.pid != begun or service.process.poll() is not None:
            raise RuntimeError("the service did not survive a fault beside it")
    return Found(outcome, examine(url, outcome))


def swaps(workspace: Workspace, url: str, count: int, seed: int) -> Found:
    """The champion's pointer replaced so many times under load; each bundle must get to answer."""
    plan = Plan(seed=seed, repeat=False, pause=0.01)
    with serve(workspace, url) as service, Load(service.port, plan) as load:
        load.more(100)
        for number in range(count):
            bundle = workspace.bundles[(number + 1) % len(workspace.bundles)]
            promote(workspace.root, bundle)
            _wait_for_model(service, load, bundle)
        outcome = load.finish()
    return Found(outcome, examine(url, outcome))


def _wait_for_model(service: Service, load: Load, bundle: str) -> None:
    service.wait_for(
        lambda: load.outcome.acknowledged[-1].model == bundle, "the new champion answers"
    )


def clock_steps(
    workspace: Workspace, url: str, decisions: int, steps: tuple[float, ...], seed: int
) -> Found:
    """The wall clock of the service stepped under load, by so many seconds from the true time."""
    file = workspace.folder / "clock"
    file.write_text("0", encoding="utf-8")

    def step(seconds: float) -> None:
        incoming = file.with_suffix(".new")
        incoming.write_text(f"{seconds}", encoding="utf-8")
        incoming.replace(file)

    clock = {"PYTHONPATH": str(_SHIFTED_CLOCK), "SHIFTED_CLOCK": str(file)}
    faults = tuple((lambda ahead=ahead: step(ahead)) for ahead in steps)
    plan = Plan(decisions=decisions, seed=seed, repeat=False)
    return under_load(workspace, url, decisions, faults, plan, clock)


def full_disk(workspace: Workspace, url: str, decisions: int, seed: int) -> Found:
    """Files of the service may not grow any more, and after a while may again."""

    def fill(service: Service, load: Load) -> None:
        service.limit_file_size(1)
        service.wait_for(lambda: load.outcome.answers[503] > 20, "writes are refused")
        _check_quiet(load, 0.5, "nothing can be written")
        service.limit_file_size(None)

    return _while_served(workspace, url, fill, decisions, seed)


def locked(workspace: Workspace, url: str, seconds: float, decisions: int, seed: int) -> Found:
    """Another program holds SQLite's write lock for so long."""

    def hold(_: Service, load: Load) -> None:
        other = sqlite3.connect(workspace.database, _FELT_SECONDS, isolation_level=None)
        with closing(other):
            other.execute("BEGIN IMMEDIATE")
            _check_quiet(load, seconds, "another holds the lock")
            other.execute("ROLLBACK")

    return _while_served(workspace, url, hold, decisions, seed)


def moved_away(
    workspace: Workspace, url: str, decisions: int, seed: int, *, replaced: bool
) -> Found:
    """The files of the SQLite ledger renamed under load, with or without an older copy in their
    place, and put back after a while."""
    database = workspace.database
    aside = workspace.folder / "aside"
    aside.mkdir()

    def names() -> list[Path]:
        return [
            path for path in database.parent.glob(f"{database.name}*") if path.suffix != ".lock"
        ]

    def move(_: Service, load: Load) -> None:
        for path in names():
            path.rename(aside / path.name)
        if replaced:
            with closing(sqlite3.connect(aside / database.name)) as source:
                source.execute("VACUUM INTO ?", (str(database),))
        refused = load.outcome.answers[503]
        deadline = time.monotonic() + _FELT_SECONDS
        while load.outcome.answers[503] < refused + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        _check_quiet(load, 1.0, "the ledger's file is elsewhere")
        for path in names():
            path.unlink()
        for path in list(aside.iterdir()):
            path.rename(database.parent / path.name)

    return _while_served(workspace, url, move, decisions, seed)


def _check_quiet(load: Load, seconds: float, why: str) -> None:
    """Raise RuntimeError where a decision is acknowledged within so many seconds, after a second
    without one: what was decided before the fault may reach its client after it."""
    deadline = time.monotonic() + _FELT_SECONDS
    before = -1
    while before != load.outcome.decisions and time.monotonic() < deadline:
        before = load.outcome.decisions
        time.sleep(1.0)
    time.sleep(seconds)
    if load.outcome.decisions != before:
        raise RuntimeError(f"a decision was acknowledged though {why}")


def _while_served(
    workspace: Workspace,
    url: str,
    fault: Callable[[Service, Load], None],
    decisions: int,
    seed: int,
) -> Found:
    """A fault between two spans of load of so many decisions."""
    with serve(workspace, url) as service, Load(service.port, Plan(seed=seed)) as load:
        load.more(decisions)
        fault(service, load)
        load.more(decisions)
        outcome = load.finish()
        service.wait()
        return Found(outcome, examine(url, outcome))


@dataclass(frozen=True)
class Stopped:
    """What clients saw of a SIGTERM, and the exit code."""

    found: Found
    code: int
    seconds: float


def stop_under_load(workspace: Workspace, url: str, calls: int, clients: int, seed: int) -> Stopped:
    """SIGTERM among so many calls on connections that stay open; no client repeats a call."""
    plan = Plan(clients=clients, seed=seed, repeat=False)
    with serve(workspace, url) as service, Load(service.port, plan) as load:
        load.wait_for(calls)
        begun = time.monotonic()
        code = service.stop()
        seconds = time.monotonic() - begun
        outcome = load.finish()
    return Stopped(Found(outcome, examine(url, outcome)), code, seconds)


def bad_bundles(workspace: Workspace, url: str, decisions: int, seed: int) -> Found:
    """The pointer names one unusable bundle after the other under load, then a sound one.

    After each the service must go on with the first champion and say in readiness what is wrong.
    """
    first, sound = workspace.bundles
    pointer = workspace.root / CHAMPION
    model = workspace.root / sound / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    unusable = {
        "half-written bundle": f"{sound}\n",
        "missing bundle": f"{'b' * 64}\n",
        "half-written pointer": sound[:20],
        "empty pointer": "",
        "pointer that is no text": "\ufffd\x00",
    }

    def names(service: Service, text: str) -> bool:
        return text in service.get("/health/ready")[1].decode()

    plan = Plan(seed=seed, repeat=False)
    with serve(workspace, url) as service, Load(service.port, plan) as load:
        load.more(decisions)
        for text in unusable.values():
            pointer.write_text(text, encoding="utf-8")
            service.wait_for(lambda: names(service, first[:12]), "readiness names the old bundle")
            load.more(decisions)
        model.write_bytes(whole)
        write_pointer(workspace.root, CHAMPION, sound)
        _wait_for_model(service, load, sound)
        outcome = load.finish()
    return Found(outcome, examine(url, outcome))
