"""Closed loop: each connection sends its next request when its answer has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.http import wrk
from benchmarks.http.contenders import Contender, post

CONNECTIONS = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How long is measured.

    Attributes
    ----------
    count, seconds:
        Rounds, and the length of a contender's turn at one number of connections.
    warm_up_seconds:
        Load before the first round, which is not counted.
    """

    count: int
    seconds: int
    warm_up_seconds: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one contender: what wrk reports and the processor time of the server."""

    load: wrk.Load
    cpu_seconds: float


def measure(
    running: Sequence[Contender],
    rounds: Rounds,
    core: int,
    connections: Sequence[int] = CONNECTIONS,
    log: Callable[[str], None] = print,
) -> dict[str, dict[str, dict[str, float]]]:
    """Let the contenders take turns, the others paused; medians over the rounds.

    Returns
    -------
    By contender and number of connections: ``rps``, ``p50_ms``, ``p99_ms`` of wrk, ``cpu_ms``,
    the server's processor time for one answer, and ``rps_least`` and ``rps_most``, the slowest and
    the fastest round.

    Raises
    ------
    RuntimeError
        An answer was not 200, or the ledger does not hold a decision for each answer.
    """
    for contender in running:
        _turn(contender, max(connections), rounds.warm_up_seconds, core)
    turns: dict[tuple[str, int], list[Turn]] = {}
    for number in connections:
        for count in range(rounds.count):
            shift = count % len(running)
            for contender in (*running[shift:], *running[:shift]):
                turn = _turn(contender, number, rounds.seconds, core)
                turns.setdefault((contender.name, number), []).append(turn)
                log(
                    f"  {contender.name:<14} {number:>2} connections, round {count + 1}: "
                    f"{turn.load.rps:8.0f} a second, p50 {turn.load.p50_ms:.2f} ms, "
                    f"p99 {turn.load.p99_ms:.2f} ms"
                )
    return {
        contender.name: {
            str(number): summarise(turns[contender.name, number]) for number in connections
        }
        for contender in running
    }


def summarise(turns: Sequence[Turn]) -> dict[str, float]:
    """Medians over the rounds."""
    rps = [turn.load.rps for turn in turns]
    cpu = [1e3 * turn.cpu_seconds / turn.load.requests for turn in turns]
    return {
        "rps": float(np.median(rps)),
        "p50_ms": float(np.median([turn.load.p50_ms for turn in turns])),
        "p99_ms": float(np.median([turn.load.p99_ms for turn in turns])),
        "cpu_ms": float(np.median(cpu)),
        "rps_least": min(rps),
        "rps_most": max(rps),
    }


def check_recorded(name: str, answers: int, recorded: int, connections: int) -> None:
    """Every answer is on record, and nothing else but what was under way when wrk stopped.

    Raises
    ------
    RuntimeError
        It is otherwise.
    """
    if not answers <= recorded <= answers + connections:
        raise RuntimeError(
            f"{name} answered {answers} calls on {connections} connections with 200 and recorded "
            f"{recorded} decisions; expected one for each answer, and at most one more a "
            "connection that was waiting when the load ended"
        )


def _turn(contender: Contender, connections: int, seconds: int, core: int) -> Turn:
    server = contender.server
    server.resume()
    before = contender.decisions() if contender.decisions else 0
    start = server.cpu_seconds()
    load = wrk.run(contender.target, connections, seconds, core)
    cpu = server.cpu_seconds() - start
    if load.not_200 or load.broken or load.timeouts or not load.requests:
        raise RuntimeError(
            f"{contender.name} on {connections} connections: {load.not_200} answers were not 200, "
            f"{load.broken} connections broke, {load.timeouts} answers did not come, of "
            f"{load.requests}; it printed:\n{server.printed()[-2000:]}"
        )
    if contender.decisions:
        recorded = _settled(contender, contender.decisions) - before
        check_recorded(contender.name, load.requests, recorded, connections)
    server.pause()
    return Turn(load, cpu)


def _settled(contender: Contender, count: Callable[[], int]) -> int:
    """The count once the calls that were under way have ended, however slow the disk is.

    Calls are decided in the order of their arrival: when one more is answered, those before it are
    on record. It is not counted. Other workers are waited for until the count stands still.
    """
    target = contender.target
    with target.bodies.open(encoding="utf-8") as lines:
        post(contender.server.url + target.path, next(lines), target.headers)
    newest = count()
    while True:
        time.sleep(0.2)
        previous, newest = newest, count()
        if newest == previous:
            return newest - 1
