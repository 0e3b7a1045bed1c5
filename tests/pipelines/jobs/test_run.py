"""``margincast run``: refused early, left out where identical, and a market that moves on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pyarrow.parquet as pq
import pytest

from benchmarks.http.ports import free_port
from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import parse_time
from pipelines.config.config import load_config
from pipelines.jobs.run import command_line
from pipelines.registry.training_inputs import RETRAINED, inputs_sha256

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any

SECONDS = 600.0
SPEED = 3_600.0
ACCOUNT = {
    "account_id": "acc-1",
    "cash": 90_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}],
}


@pytest.fixture
def known(workspace: Workspace) -> Workspace:
    """A workspace whose newest training is on record with the inputs of its configuration.

    The training of the fixture may have been refused for its small sample, and promoted by hand.
    """
    text = workspace.config.read_text().replace(
        "[simulate]", f"[simulate]\nspeed = {SPEED}\nhalts = {{ SOLUSDT = 6 }}"
    )
    workspace.config.write_text(
        f"{text}\n[monitoring]\nenabled = true\n[enforcement]\nenabled = true\n"
    )
    config = load_config(workspace.config)
    payload = {
        "verdict": "promoted",
        "bundle": workspace.champion,
        "champion_before": None,
        "accepted": {},
        "inputs_sha256": inputs_sha256(config),
    }
    with Ledger(config.ledger.url, chain="registry") as ledger:
        ledger.append([Entry(kind=RETRAINED, payload=payload)])
    return workspace


@contextmanager
def running(workspace: Workspace) -> Iterator[httpx.Client]:
    """``margincast run`` as a process, from when its endpoint is ready until SIGTERM."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MARGINCAST")}
    with (workspace.folder / "run.out").open("w") as out:
        process = subprocess.Popen(
            [*margincast(), "run", "--config", str(workspace.config)],
            cwd=workspace.folder,
            env=kept | {"MARGINCAST__SERVING__PORT": str(port), "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False)
        try:
            until(lambda: process.poll() is not None or is_ready(client))
            assert process.poll() is None, (workspace.folder / "run.out").read_text()
            yield client
            process.send_signal(signal.SIGTERM)
            process.wait(60.0)
        finally:
            process.kill()
            process.wait(60.0)
            client.close()


def margincast() -> list[str]:
    return [str(Path(sys.executable).with_name("margincast"))]


def until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def market_time(client: httpx.Client) -> int:
    answer = client.post("/v1/score", json={"accounts": [ACCOUNT]})
    assert answer.status_code == 200, answer.text
    return parse_time(answer.json()["decisions"][0]["as_of"])


def actions_recorded(workspace: Workspace) -> int:
    """Records of what clients did: the first one tells their accounts."""
    return int(workspace.sql("SELECT count(*) FROM records WHERE chain = 'accounts'")[0][0]) - 1


def call_events(workspace: Workspace) -> list[str]:
    """Events of calls; a deposit among their cures is a client's answer to a webhook."""
    query = "SELECT unpacked(payload) FROM records WHERE chain = 'enforcement' AND kind = 'call'"
    return [text for (text,) in workspace.sql(query)]


def live_book(workspace: Workspace) -> Any:
    """The answer to the command that the run shows."""
    printed = (workspace.folder / "run.out").read_text()
    (command,) = re.findall(r"^  live book: +(.+)$", printed, re.MULTILINE)
    shell = pasted(command, workspace.folder)
    out, errors = shell.communicate(timeout=SECONDS)
    assert shell.returncode == 0, errors
    return json.loads(out)


def test_a_used_port_is_refused_before_anything_is_simulated(bare: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = bare.refusal("run", MARGINCAST__SERVING__PORT=str(port))
    assert f"port {port} cannot be listened on" in said
    assert not (bare.folder / "var" / "simulated").exists()


def test_a_ledger_that_cannot_be_written_is_refused_first(bare: Workspace) -> None:
    (bare.folder / "file").touch()
    url = f"sqlite:///{bare.folder}/file/ledger.db"
    said = bare.refusal("run", "--once", MARGINCAST__LEDGER__URL=url)
    assert "file" in said
    assert not (bare.folder / "var" / "simulated").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MARGINCAST__SERVING__CLOCK": "wall"}, 'clock is "wall"'),
        ({"MARGINCAST__SERVING__AUTH": "keys"}, 'auth is "keys"'),
    ],
)
def test_a_market_that_cannot_go_on_is_refused_first(
    bare: Workspace, variables: dict[str, str], said: str
) -> None:
    line = bare.refusal("run", MARGINCAST__SIMULATE__SPEED="60", **variables)
    assert said in line
    assert "set speed to 0" in line
    assert not (bare.folder / "var" / "simulated").exists()


IMPORTED = """
import sys
from pipelines.cli.main import app
app(["run", "--once", "--config", "margincast.toml"], standalone_mode=False)
loaded = {"mlflow", "lightgbm", "sklearn", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""


def test_an_identical_training_is_left_out_and_its_libraries_are_not_loaded(
    known: Workspace,
) -> None:
    trainings = known.sql("SELECT count(*) FROM records WHERE kind = 'retrain'")
    for _ in range(2):  # the first scores the book, the second finds it scored
        done = subprocess.run(
            [sys.executable, "-c", IMPORTED],
            cwd=known.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "retrain: skipped" in done.stdout
        assert "margincast retrain" in done.stdout
        assert "fallback: stale_data" in done.stdout
    assert known.sql("SELECT count(*) FROM records WHERE kind = 'retrain'") == trainings
    scored = known.sql("SELECT count(*) FROM records WHERE chain = 'score'")
    assert scored == [(150,)]


def test_the_report_has_the_book_and_what_was_left_out(known: Workspace) -> None:
    first, second = (known.report("run", "--once") for _ in range(2))
    assert first["retrain"] == second["retrain"]
    assert first["retrain"]["skipped"] is True
    assert first["score"]["decisions"] == 150
    assert second["score"] is None
    assert first["book"] == second["book"]
    assert first["book"][-1]["accounts"] == 150
    scored = pq.read_table(known.folder / "var" / "scored.parquet")
    assert "maker-001" in scored["account_id"].to_pylist()


def test_the_market_and_its_clients_go_on_and_a_restart_continues(
    known: Workspace, trained: TrainedMarket
) -> None:
    with running(known) as client:
        until(lambda: market_time(client) >= parse_time(trained.newest) + 4 * 3_600 * 10**9)
        until(lambda: actions_recorded(known) > 0)
        until(lambda: live_book(known)["evaluated_at"] is not None)
        listed = live_book(known)
        assert len(listed["accounts"]) == 5
        evaluated = parse_time(listed["evaluated_at"])
        until(lambda: parse_time(live_book(known)["evaluated_at"]) > evaluated)
        reached = market_time(client)
        decided = client.post("/v1/score", json={"accounts": [ACCOUNT]}).json()["decisions"][0]
        assert decided["marks"][0]["source"] == "quote"
        assert decided["degraded"] is None
        until(lambda: any('"source":"deposit"' in text for text in call_events(known)))
        assert client.get("/v1/calls", params={"limit": 1}).json()["calls"]
    assert known.sql("SELECT count(*) FROM accounts") == [(150,)]
    assert known.sql("SELECT count(*) FROM accounts WHERE out_of_sync IS NOT NULL") == [(0,)]
    records = known.sql("SELECT count(*) FROM records")
    time.sleep(3.0)
    assert known.sql("SELECT count(*) FROM records") == records, "the venue ended with the run"
    moved = actions_recorded(known)
    with running(known) as client:
        assert market_time(client) >= reached - 3_600 * 10**9
        until(lambda: market_time(client) >= reached + 3 * 3_600 * 10**9)
        until(lambda: actions_recorded(known) > moved)
    bars = known.sql(
        "SELECT unpacked(payload) FROM records WHERE chain = 'market' AND kind = 'bars'"
    )
    assert not any('"late"' in text or '"rejected"' in text for (text,) in bars)
    known.run("ledger", "verify")
    delivered = known.sql("SELECT count(*) FROM outbox WHERE status = 'delivered'")
    assert delivered[0][0] > 0
    assert known.sql("SELECT count(*) FROM outbox WHERE status = 'dead'") == [(0,)]


def test_the_lines_of_look_here_work_in_a_fresh_shell(known: Workspace) -> None:
    folder = known.folder / "else where"
    folder.mkdir()
    done = known.run("run", "--once")
    lines = done.stdout.partition("look here")[2].splitlines()
    shown = dict(re.findall(r"^  (\w[\w ]*): +(.+)$", "\n".join(lines), re.MULTILINE))
    assert list(shown) == ["endpoint", "decisions", "experiments", "review", "audit"]
    assert Path(*shlex.split(shown["decisions"])).is_file()
    for name in ("review", "audit"):
        shell = pasted(shown[name], folder)
        _, errors = shell.communicate(timeout=SECONDS)
        assert shell.returncode == 0, errors
    assert (known.folder / "review.html").is_file()
    for name, path, option in (
        ("endpoint", "/health/ready", "--port"),
        ("experiments", "/", "--port"),
    ):
        port = free_port()
        shell = pasted(f"exec {shown[name]} {option} {port}", folder)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                until(lambda: answers(client, path) or shell.poll() is not None)  # noqa: B023
            assert shell.poll() is None, shell.communicate()
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.communicate()


def pasted(line: str, folder: Path) -> subprocess.Popen[str]:
    """A line in a shell that knows nothing of this one."""
    return subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_commands_name_program_and_configuration_as_the_shell_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a venv" / "bin").mkdir(parents=True)
    for name in ("python", "margincast"):
        (tmp_path / "a venv" / "bin" / name).touch()
    monkeypatch.chdir(tmp_path)
    program = f"{tmp_path}/a venv/bin/margincast"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a venv" / "bin" / "python"))
    without = command_line("margincast", "serve")
    assert shlex.split(without) == ["cd", str(tmp_path), "&&", program, "serve"]
    for name in ("margincast.toml", "my conf.toml"):
        (tmp_path / name).touch()
        named = command_line("margincast", "serve", config_file=Path(name))
        assert shlex.split(named) == [program, "serve", "--config", f"{tmp_path}/{name}"]
    assert shlex.split(command_line("mlflow", "ui"))[1:] == ["ui"]
