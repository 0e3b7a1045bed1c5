"""The servers that are measured, each with the same model: how they start and what they are asked.

Margincast answers a whole decision on an account and commits it before the answer leaves. The
peers answer three probabilities of a row of features that somebody else has computed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.http.process import Command, Server, running
from benchmarks.http.world import World, score_bodies
from benchmarks.http.wrk import Target
from models.onnx.scorer import PROBABILITY

MARGINCAST, MLFLOW, BENTOML = "margincast", "mlflow_serve", "bentoml"
NAMES = (MARGINCAST, MLFLOW, BENTOML)
BIN = Path(sys.executable).parent
PEERS = Path(".venv-peers")
"""The environment of BentoML, beside that of the project; `make bench-http` makes it."""

PEER_ROWS = 1_000
READY_SECONDS = 180.0
_PROBES = 5
_SAME = 1e-9
"""Probabilities of one model by two runtimes differ by no more."""


@dataclass(frozen=True)
class Contender:
    """A server that runs, and the requests that are sent to it.

    Attributes
    ----------
    name:
        Key in the results.
    server:
        The process.
    target:
        Its requests.
    decisions:
        Counts the decisions in its ledger; None for a peer, which records nothing.
    """

    name: str
    server: Server
    target: Target
    decisions: Callable[[], int] | None = None


def serve_command(world: World, ledger: Path, **settings: str) -> Command:
    """``margincast serve`` on a ledger of its own; settings are keys of ``[serving]``."""
    environment = {f"MARGINCAST__SERVING__{key.upper()}": text for key, text in settings.items()}
    environment["MARGINCAST__SERVING__PORT"] = "{port}"
    environment["MARGINCAST__LEDGER__URL"] = f"sqlite:///{ledger}"
    arguments = [str(BIN / "margincast"), "serve", "--config", str(world.config)]
    return Command(arguments, environment, world.folder, "/health/ready")


@contextmanager
def contenders(world: World, names: Sequence[str], core: int) -> Iterator[list[Contender]]:
    """Start the servers on one core; each has answered and its answers are right."""
    with ExitStack() as stack:
        begun = []
        for name in names:
            contender = _START[name](world, core, stack)
            _check(contender, world)
            contender.server.pause()
            begun.append(contender)
        yield begun


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A file of request bodies."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def count_decisions(ledger: Path) -> int:
    """Decisions on record."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        query = "select count(*) from records where kind = 'decision'"
        return int(connection.execute(query).fetchone()[0])


def post(url: str, body: str, headers: Sequence[str] = ()) -> Any:
    """The JSON of a 200 answer."""
    lines = dict(line.split(": ", 1) for line in headers)
    request = urllib.request.Request(  # noqa: S310 - ours
        url, body.encode(), {"Content-Type": "application/json", **lines}
    )
    with urllib.request.urlopen(request, timeout=READY_SECONDS) as response:  # noqa: S310
        return json.loads(response.read())


def _margincast(world: World, core: int, stack: ExitStack) -> Contender:
    ledger = world.folder / "closed-loop.db"
    server = stack.enter_context(running(serve_command(world, ledger), [core]))
    server.wait(READY_SECONDS)
    bodies = write_lines(world.folder / "score.txt", score_bodies(world))
    target = Target(server.url, "/v1/score", bodies)
    return Contender(MARGINCAST, server, target, partial(count_decisions, ledger))


def _mlflow(world: World, core: int, stack: ExitStack) -> Contender:
    model = world.folder / "mlflow_model"
    with warnings.catch_warnings():  # of type hints in its own code
        warnings.simplefilter("ignore")
        import mlflow.onnx  # 5 s

        mlflow.onnx.save_model(
            onnx.load(world.onnx),
            model,
            pip_requirements=["onnxruntime"],
            onnx_execution_providers=["CPUExecutionProvider"],
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
            save_as_external_data=False,
        )
    arguments = [
        *(str(BIN / "mlflow"), "models", "serve", "--model-uri", str(model)),
        *("--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", "{port}"),
    ]
    path = f"{BIN}:{os.environ.get('PATH', '')}"  # mlflow starts uvicorn by its name
    command = Command(arguments, {"PATH": path}, world.folder, "/health")
    server = stack.enter_context(running(command, [core]))
    server.wait(READY_SECONDS)
    return Contender(MLFLOW, server, _peer_target(world, server, MLFLOW, "/invocations"))


def _bentoml(world: World, core: int, stack: ExitStack) -> Contender:
    folder = Path(__file__).resolve().parents[1] / "peers"
    arguments = [
        *(str((PEERS / "bin" / "bentoml").absolute()), "serve", "bento_service:Forecast"),
        *("--working-dir", str(folder), "--host", "127.0.0.1", "--port", "{port}"),
    ]
    environment = {
        "PEER_MODEL": str(world.onnx),
        "BENTOML_HOME": str(world.folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "1",
        "PATH": f"{(PEERS / 'bin').absolute()}:{os.environ.get('PATH', '')}",
    }
    command = Command(arguments, environment, world.folder, "/readyz")
    server = stack.enter_context(running(command, [core]))
    server.wait(READY_SECONDS)
    return Contender(BENTOML, server, _peer_target(world, server, BENTOML, "/predict"))


_START = {MARGINCAST: _margincast, MLFLOW: _mlflow, BENTOML: _bentoml}
_KEY = {MLFLOW: "inputs", BENTOML: "features"}


def bentoml_version() -> str | None:
    """The version of BentoML in its environment; None where it is not installed."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        return None
    code = "from importlib.metadata import version; print(version('bentoml'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _peer_target(world: World, server: Server, name: str, path: str) -> Target:
    rows = world.features[:PEER_ROWS].tolist()
    bodies = [json.dumps({_KEY[name]: [row]}, allow_nan=True) for row in rows]
    return Target(server.url, path, write_lines(world.folder / f"{name}.txt", bodies))


def _check(contender: Contender, world: World) -> None:
    """Ask a few accounts: decisions are full, and each peer answers the model's probabilities.

    Raises
    ------
    RuntimeError
        An answer is not what it should be.
    """
    bodies = contender.target.bodies.read_text("utf-8").splitlines()[:_PROBES]
    expected = world.model.probability(world.features[:_PROBES])
    for body, probability in zip(bodies, expected, strict=True):
        answer = post(contender.server.url + contender.target.path, body)
        if not _is_right(contender.name, answer, probability.tolist()):
            raise RuntimeError(
                f"{contender.name} answered {json.dumps(answer)[:500]}; expected the "
                f"probabilities {probability.tolist()}"
            )


def _is_right(name: str, answer: Any, probability: list[float]) -> bool:
    if name == MARGINCAST:
        (decision,) = answer["decisions"]
        full = not answer["errors"] and decision["degraded"] is None and decision["decision_id"]
        found = list(decision["probability"].values())
    else:
        full = True
        rows = answer["predictions"][PROBABILITY] if name == MLFLOW else answer
        (found,) = rows
    return bool(full) and np.allclose(found, probability, rtol=_SAME, atol=0.0)
