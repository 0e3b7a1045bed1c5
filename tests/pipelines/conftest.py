"""Margincast as its users run it: processes on a small simulated market in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest
from filelock import FileLock

from benchmarks.http.ports import free_port
from ledger.packing import pack, unpack

MARGINCAST = str(Path(sys.executable).parent / "margincast")
SECONDS = 1_200
"""A verb that takes longer hangs; this is no measure of speed, as machines are shared."""

READY_SECONDS = 600.0
"""The same for an endpoint that starts; without kept kernels it compiles them first."""

CONFIG = """
[simulate]
days = 45
symbols = 3

[accounts]
count = 150

[training]
max_rows = 20000

[tracking]
uri = "sqlite:///var/mlflow.db"

[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"

[ledger]
url = "sqlite:///var/ledger.db"
"""


ELSEWHERE = "elsewhere"
"""Folder that the training of all tests is started in, which is not that of its configuration."""


def environment(**variables: str) -> dict[str, str]:
    """The surrounding environment without settings of Margincast, and with these."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MARGINCAST")}
    # Threads that spin while they wait make training on a busy machine many times slower.
    quiet = {"MARGINCAST_QUIET": "1"}  # stderr is the error alone
    return kept | {"OMP_WAIT_POLICY": "PASSIVE"} | quiet | variables


def margincast(
    *arguments: str | Path, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """One run of the command line."""
    return subprocess.run(
        [MARGINCAST, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def only_line(text: str) -> str:
    """The one line that an error may take."""
    (line,) = text.splitlines()
    return line


@dataclass(frozen=True)
class Workspace:
    """A folder with a configuration and what the verbs leave beside it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "margincast.toml"

    @property
    def bundles(self) -> Path:
        return self.folder / "var" / "bundles"

    @property
    def ledger(self) -> Path:
        return self.folder / "var" / "ledger.db"

    @property
    def accounts(self) -> Path:
        return self.folder / "simulated" / "accounts"

    @property
    def champion(self) -> str:
        return (self.bundles / "champion").read_text().removesuffix("\n")

    def copied(self, folder: Path) -> Workspace:
        """A copy of it for tests that change things."""
        ignored = shutil.ignore_patterns("dataset.parquet")
        return Workspace(Path(shutil.copytree(self.folder, folder, ignore=ignored)))

    def run(
        self, *arguments: str | Path, code: int | tuple[int, ...] = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A verb with this configuration; any exit code but `code` fails the test."""
        done = margincast(*arguments, "--config", self.config, cwd=self.folder, **variables)
        expected = (code,) if isinstance(code, int) else code
        assert done.returncode in expected, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def report(
        self, *arguments: str | Path, code: int | tuple[int, ...] = 0, **variables: str
    ) -> dict[str, Any]:
        """What a verb writes to ``--json``."""
        out = self.folder / "report.json"
        out.unlink(missing_ok=True)
        self.run(*arguments, "--json", out, code=code, **variables)
        report: dict[str, Any] = json.loads(out.read_text(), parse_constant=_refuse_constant)
        return report

    def refusal(self, *arguments: str | Path, **variables: str) -> str:
        """The one clear line on stderr of a verb that must fail."""
        return only_line(self.run(*arguments, code=1, **variables).stderr)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """A statement on the ledger's database behind the ledger's back, which reads and
        writes packed texts by ``unpacked`` and ``packed``."""
        with closing(sqlite3.connect(self.ledger)) as connection, connection:
            connection.create_function("packed", 1, lambda text: pack(text.encode()))
            connection.create_function("unpacked", 1, lambda stored: unpack(stored).decode())
            return connection.execute(statement, values).fetchall()


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} has no place in a report")


@dataclass(frozen=True)
class TrainedMarket:
    """A workspace after ``simulate`` and ``retrain``, with a champion. Shared: do not change it."""

    workspace: Workspace
    simulated: dict[str, Any]
    retrained: dict[str, Any]
    retrain_code: int
    champion: str

    @property
    def newest(self) -> str:
        """Close of the newest bar."""
        newest: str = self.simulated["span"][1]
        return newest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedMarket:
    """One simulation and one training for all tests, in however many processes they run.

    Each process of the tests reads a copy of its own, for verbs write reports beside what they
    read.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # what the processes of a run have in common
    kept = folder / "trained.json"
    with FileLock(folder / "trained.lock"):
        if not kept.exists():
            shutil.rmtree(folder / "trained", ignore_errors=True)  # of a process that was killed
            original = simulate_and_train(Workspace(folder / "trained"))
            kept.write_text(json.dumps(original))
        made = json.loads(kept.read_text())
    copy = tmp_path_factory.mktemp("margincast") / "copy"
    workspace = Workspace(Path(shutil.copytree(folder / "trained", copy)))
    return TrainedMarket(workspace, **made, champion=workspace.champion)


def simulate_and_train(workspace: Workspace) -> dict[str, Any]:
    """What the verbs that make a trained market report of it.

    So small a sample may fail a safety gate; the bundle is then promoted by hand, with a reason.
    """
    workspace.folder.mkdir()
    workspace.config.write_text(CONFIG)
    simulated = workspace.report("simulate", "--out", "simulated")
    elsewhere = workspace.folder / ELSEWHERE
    elsewhere.mkdir()
    done = margincast("retrain", "--config", workspace.config, "--json", "-", cwd=elsewhere)
    assert done.returncode in {0, 3}, done.stderr
    retrained = json.loads(done.stdout, parse_constant=_refuse_constant)  # nothing else is there
    if done.returncode == 3:
        workspace.run("promote", retrained["bundle"], "--override", "small sample")
    return {"simulated": simulated, "retrained": retrained, "retrain_code": done.returncode}


@pytest.fixture
def workspace(trained: TrainedMarket, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace that a test may change."""
    return trained.workspace.copied(tmp_path / "copy")


@pytest.fixture
def bare(tmp_path: Path) -> Workspace:
    """A configuration and nothing else."""
    bare = Workspace(tmp_path / "bare")
    bare.folder.mkdir()
    bare.config.write_text(CONFIG)
    return bare


class Endpoint:
    """``margincast serve`` as a process on a free port, ready when the block is entered."""

    def __init__(self, workspace: Workspace, **variables: str) -> None:
        port = free_port()
        self._errors = (workspace.folder / "serve.err").open("w+")
        self._process = subprocess.Popen(
            [MARGINCAST, "serve", "--config", str(workspace.config)],
            cwd=workspace.folder,
            env=environment(MARGINCAST__SERVING__PORT=str(port), **variables),
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=120.0, trust_env=False
        )

    def __enter__(self) -> Endpoint:
        try:
            self.until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def get(self, path: str, code: int = 200, **options: Any) -> Any:
        """JSON of a GET; any other status fails the test."""
        return _json(self.client.get(path, **options), code)

    def post(self, path: str, body: object, code: int = 200, **options: Any) -> Any:
        """JSON of a POST; any other status fails the test."""
        return _json(self.client.post(path, json=body, **options), code)

    def stop(self) -> int:
        """End it as an operator does, and give its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(READY_SECONDS)

    def kill(self) -> None:
        """End it with no chance to save anything."""
        self._process.kill()
        self._process.wait(READY_SECONDS)
        self.client.close()
        self._errors.close()

    def until_live(self) -> None:
        """Wait until it listens, for an endpoint that is not entered."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                assert self.get("/health/live") == {"status": "live"}
            except httpx.TransportError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(f"serve did not listen within {READY_SECONDS:g} s: {self._output()}")

    def until_ready(self) -> None:
        """Wait until it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"serve ended early: {self._output()}"
            try:
                if self.client.get("/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        pytest.fail(f"serve was not ready within {READY_SECONDS:g} s: {self._output()}")

    def _output(self) -> str:
        self._errors.seek(0)
        return self._errors.read()


def _json(response: httpx.Response, code: int) -> Any:
    assert response.status_code == code, response.text
    return json.loads(response.content, parse_constant=_refuse_constant)


@pytest.fixture
def retraining() -> Callable[[Workspace], subprocess.Popen[bytes]]:
    """Starts ``margincast retrain`` as a process that the test ends itself."""

    def start(workspace: Workspace) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [MARGINCAST, "retrain", "--config", str(workspace.config)],
            cwd=workspace.folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


@pytest.fixture
def begin() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints without waiting for them, and ends them with the test."""
    with ExitStack() as stack:

        def start(workspace: Workspace, **variables: str) -> Endpoint:
            endpoint = Endpoint(workspace, **variables)
            stack.callback(endpoint.kill)
            return endpoint

        yield start


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints and ends them with the test."""
    with ExitStack() as stack:
        yield lambda workspace, **variables: stack.enter_context(Endpoint(workspace, **variables))
