"""Workers and replicas as processes: one add-on in force, one market, nothing lost by a kill."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.http.ports import free_port
from ledger.records import Record
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import format_time, parse_time
from pipelines.jobs.workers import END_SECONDS
from serving.http.server import CLOSE_SECONDS

MARGINCAST = str(Path(sys.executable).parent / "margincast")
WAIT_SECONDS = 300.0
"""A process that takes longer hangs; this is no measure of speed, as machines are shared."""

CONFIG = """
[simulate]
days = 12
symbols = 3
[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"
[ledger]
url = "sqlite:///var/ledger.db"
"""


@pytest.fixture
def folder(tmp_path: Path, made_bundles: tuple[Path, str]) -> Path:
    """A configuration, and a champion without trees."""
    (tmp_path / "margincast.toml").write_text(CONFIG)
    shutil.copytree(made_bundles[0], tmp_path / "var" / "bundles")
    return tmp_path


class Served:
    """``margincast serve`` on a free port."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.errors = folder / f"serve-{self.port}.err"
        kept = {n: v for n, v in os.environ.items() if not n.startswith("MARGINCAST")}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [MARGINCAST, "serve", "--port", str(self.port), *options],
                cwd=folder,
                env=kept | variables,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def log(self) -> str:
        return self.errors.read_text()

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            if holds():
                return
            time.sleep(0.02)
        pytest.fail(f"{what}: not within {WAIT_SECONDS:g} s; {self.log()}")

    def wait(self) -> Served:
        self.wait_for(lambda: "listen" in self.log(), "the endpoint listens")
        return self

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [pid for pid in map(int, children) if "spawn_main" in _command(pid)]

    def client(self) -> httpx.Client:
        """A connection of its own: the kernel gives it to one of the workers."""
        return httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(path).json()

    def post(self, path: str, body: object) -> Any:
        with self.client() as client:
            response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in ("Z", "")
    except OSError:
        return False


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def start(*options: str, **variables: str) -> Served:
            served = Served(folder, *options, **variables)
            stack.callback(served.end)
            return served

        yield start


def account(name: str, quantity: float) -> dict[str, Any]:
    positions = [{"instrument": "BTCUSDT-PERP", "quantity": quantity}]
    return {"account_id": name, "cash": 5_000.0, "positions": positions}


def view(served: Served) -> Any:
    """What one process would decide now: equal where its market is equal, to the last bit."""
    body = {"accounts": [account("view", 0.1)], "changes": [{"account_id": "view", "deposit": 0.0}]}
    (decision,) = served.post("/v1/what-if", body)["before"]["decisions"]
    return decision


def next_bars(served: Served) -> dict[str, Any]:
    """A bar of every symbol after the newest one."""
    return bars_at(parse_time(view(served)["as_of"]))


def bars_at(open_: int) -> dict[str, Any]:
    price = {"BTCUSDT": 100_000.0, "ETHUSDT": 3_500.0, "SOLUSDT": 190.0}
    return {
        "interval": "1h",
        "bars": [
            {
                "symbol": symbol,
                "ts": format_time(open_),
                "open": value,
                "high": value * 1.01,
                "low": value * 0.99,
                "close": value,
                "volume": 10.0,
            }
            for symbol, value in price.items()
        ],
    }


def _sees(served: Served, expected: Any) -> bool:
    return bool(view(served) == expected)


def decisions_of(folder: Path, name: str, url: str | None = None) -> list[Record]:
    with Ledger(url or f"sqlite:///{folder}/var/ledger.db") as ledger:
        assert verify(ledger.engine).intact
        page, before = ledger.decisions_of(name, 100_000)
    assert before is None
    return page[::-1]


def check_one_after_the_other(decisions: list[Record]) -> None:
    """Each decision continues from the newest decision time recorded before it, by any worker."""
    assert decisions[0].payload["previous"] is None
    in_force = decisions[0]
    for before, after in pairwise(decisions):
        assert after.recorded_at > before.recorded_at
        assert after.payload["previous"]["amount"] == in_force.payload["decision"]["add_on"]
        assert after.payload["previous"]["as_of"] == in_force.as_of
        assert after.as_of is not None
        if after.as_of >= (in_force.as_of or 0):
            in_force = after


def test_fifty_concurrent_scores_of_an_account_over_two_workers_form_one_sequence(
    start: Callable[..., Served], folder: Path
) -> None:
    served = start("--workers", "2").wait()
    rng = random.Random(3)  # noqa: S311 - quantities of a test
    quantities = [round(rng.uniform(0.01, 0.4), 4) for _ in range(50)]

    def score(quantity: float) -> str:
        (decision,) = served.post("/v1/score", {"accounts": [account("one", quantity)]})[
            "decisions"
        ]
        return str(decision["decision_id"])

    with ThreadPoolExecutor(10) as pool:
        answered = set(pool.map(score, quantities))
    decisions = decisions_of(folder, "one")
    assert {record.id for record in decisions} == answered
    assert len(decisions) == 50
    check_one_after_the_other(decisions)
    assert {record.chain for record in decisions} == {"serving-1", "serving-2"}
    levels = {record.payload["decision"]["add_on"] for record in decisions}
    assert len(levels) > 40, "the levels differ, so that their order shows"


def test_a_worker_killed_under_load_loses_nothing_that_was_answered(
    start: Callable[..., Served], folder: Path
) -> None:
    served = start("--workers", "2").wait()
    first = served.workers()
    assert len(first) == 2
    stop = threading.Event()
    answered: list[str] = []

    def load(number: int) -> None:
        client = served.client()
        while not stop.is_set() and served.process.poll() is None:
            body = {"accounts": [account("loaded", 0.05 + number / 100)]}
            try:
                response = client.post("/v1/score", json=body)
            except httpx.TransportError:  # of the killed worker: not answered
                client.close()
                client = served.client()
                continue
            assert response.status_code == 200, response.text
            answered.append(response.json()["decisions"][0]["decision_id"])
        client.close()

    threads = [threading.Thread(target=load, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    served.wait_for(lambda: len(answered) > 40, "the load is answered")
    bars = next_bars(served)
    posted = served.post("/v1/market/bars", bars)
    assert {result["status"] for result in posted["results"]} == {"applied"}
    os.kill(first[0], signal.SIGKILL)
    killed_at = len(answered)
    served.wait_for(lambda: len(answered) > killed_at + 40, "the other worker goes on")
    served.wait_for(lambda: len(set(served.workers()) - set(first)) == 1, "a worker is restarted")
    stop.set()
    for thread in threads:
        thread.join()
    assert "ended (exit code -9); it is restarted" in served.log()
    decisions = decisions_of(folder, "loaded")
    assert set(answered) <= {record.id for record in decisions}
    check_one_after_the_other(decisions)
    assert view(served)["as_of"] == posted["as_of"]
    again = served.post("/v1/market/bars", bars)
    assert {result["status"] for result in again["results"]} == {"duplicate"}
    workers = served.workers()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(WAIT_SECONDS) == 0
    assert not any(map(_runs, workers)), "no worker is left"


def ask_live(served: Served) -> socket.socket:
    """A new connection on which liveness was asked for."""
    client = socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_SECONDS)
    host = f"127.0.0.1:{served.port}"
    client.sendall(
        f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    return client


def has_answer(client: socket.socket, seconds: float) -> bool:
    return bool(select.select([client], [], [], seconds)[0])


def _answered(clients: list[socket.socket], count: int) -> bool:
    return sum(has_answer(client, 0.0) for client in clients) >= count


def ready_workers(served: Served) -> int:
    with served.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(line.startswith("margincast_ready{") and line.endswith(" 1.0") for line in lines)


def test_a_killed_worker_loses_no_connection_that_it_had_not_accepted(
    start: Callable[..., Served],
) -> None:
    served = start("--workers", "2").wait()
    for _ in range(2):  # the second time one of them was restarted
        served.wait_for(lambda: ready_workers(served) == 2, "both workers are ready")
        victim, other = served.workers()
        os.kill(victim, signal.SIGSTOP)
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(ask_live(served))) for _ in range(40)]
            served.wait_for(partial(_answered, clients, 6), "the other worker answers")
            time.sleep(0.5)
            waiting = [client for client in clients if not has_answer(client, 0.05)]
            assert len(waiting) > 5, "each worker has a socket of its own"
            os.kill(victim, signal.SIGKILL)
            asked = 0
            while set(served.workers()) <= {victim, other} or asked < 40:
                with closing(ask_live(served)) as client:
                    assert client.recv(100).startswith(b"HTTP/1.1 200 ")
                asked += 1
            assert all(client.recv(100).startswith(b"HTTP/1.1 200 ") for client in waiting)
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(WAIT_SECONDS) == 0


def test_a_worker_that_is_stopped_alone_resets_nothing_and_is_replaced(
    start: Callable[..., Served],
) -> None:
    served = start("--workers", "2").wait()
    served.wait_for(lambda: ready_workers(served) == 2, "both workers are ready")
    victim, other = served.workers()
    os.kill(victim, signal.SIGTERM)
    while set(served.workers()) <= {victim, other}:
        with closing(ask_live(served)) as client:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    served.wait_for(lambda: ready_workers(served) == 2, "the successor is ready")
    before = served.log().count("/health/live 200")
    for _ in range(40):
        with closing(ask_live(served)) as client:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    served.wait_for(
        lambda: served.log().count("/health/live 200") >= before + 40, "each has its line"
    )
    newest = [line for line in served.log().splitlines() if "/health/live 200" in line][-40:]
    assert len({line.rpartition("pid=")[2] for line in newest}) == 2, "both take connections"


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{folder}/var/ledger.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


def test_replicas_follow_each_other_and_a_restart_follows_both(
    ledger_url: str, start: Callable[..., Served], folder: Path
) -> None:
    def replica(name: str) -> Served:
        return start(MARGINCAST__SERVING__REPLICA=name, MARGINCAST__LEDGER__URL=ledger_url).wait()

    a, b = replica("a"), replica("b")
    assert view(a) == view(b)
    for poster, other in ((a, b), (b, a), (a, b)):
        posted = poster.post("/v1/market/bars", next_bars(poster))
        assert {result["status"] for result in posted["results"]} == {"applied"}
        mark = {"instrument": "BTCUSDT-PERP", "mark": 100_100.0, "ts": posted["as_of"]}
        quoted = poster.post("/v1/market/quotes", {"quotes": [mark]})
        assert {result["status"] for result in quoted["results"]} == {"applied"}
        mine = view(poster)
        assert mine["as_of"] == posted["as_of"]
        assert {mark["source"] for mark in mine["marks"]} == {"quote"}
        follows = partial(_sees, other, mine)
        other.wait_for(follows, "the other replica follows")
        assert other.get("/health/ready")["status"] == "ready"
    a.end()
    posted = b.post("/v1/market/bars", next_bars(b))
    again = replica("a")
    assert view(again) == view(b)
    assert view(again)["as_of"] == posted["as_of"]
    for each in (again, b):
        each.post("/v1/score", {"accounts": [account("both", 0.1)]})
    decisions = decisions_of(folder, "both", ledger_url)
    check_one_after_the_other(decisions)
    assert [record.chain for record in decisions] == ["serving-a", "serving-b"]


@pytest.mark.parametrize("starting", [False, True])
def test_a_worker_that_ends_while_the_service_stops_is_neither_restarted_nor_an_error(
    start: Callable[..., Served], starting: bool
) -> None:
    served = start("--workers", "2")
    if not starting:
        served.wait()
    served.wait_for(lambda: len(served.workers()) == 2, "the workers are there")
    workers = served.workers()
    # Stopped meanwhile, the supervisor sees the signal and the end of the worker together.
    served.process.send_signal(signal.SIGSTOP)
    os.kill(workers[0], signal.SIGKILL)
    served.process.send_signal(signal.SIGTERM)
    served.process.send_signal(signal.SIGCONT)
    assert served.process.wait(WAIT_SECONDS) == 0, served.log()
    assert "ended" not in served.log()
    assert "could not start" not in served.log()
    assert not any(map(_runs, workers)), "no worker is left"


def test_the_supervisor_waits_longer_than_a_worker_takes_to_answer() -> None:
    assert END_SECONDS > CLOSE_SECONDS


def test_workers_end_when_their_supervisor_is_killed(start: Callable[..., Served]) -> None:
    served = start("--workers", "2").wait()
    workers = served.workers()
    served.end()
    deadline = time.monotonic() + WAIT_SECONDS
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, workers))


def test_a_ledger_that_cannot_be_opened_is_refused_before_workers_start(
    start: Callable[..., Served], folder: Path
) -> None:
    (folder / "var" / "other.db").write_text("this is no database, and longer than a header" * 9)
    served = start("--workers", "2", MARGINCAST__LEDGER__URL="sqlite:///var/other.db")
    assert served.process.wait(WAIT_SECONDS) == 1
    (line,) = served.log().splitlines()
    assert "not a database" in line


def test_workers_refuse_a_port_that_another_service_shares(start: Callable[..., Served]) -> None:
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        served = start("--workers", "2", "--port", str(port))
        assert served.process.wait(WAIT_SECONDS) == 1
        assert f"port {port} cannot be listened on" in served.log()


def test_options_are_checked_like_the_configuration(start: Callable[..., Served]) -> None:
    served = start("--workers", "0")
    assert served.process.wait(WAIT_SECONDS) == 1
    assert "serving.workers is 0" in served.log()


def test_workers_that_die_again_and_again_end_the_service(start: Callable[..., Served]) -> None:
    served = start("--workers", "2").wait()
    deadline = time.monotonic() + WAIT_SECONDS
    while served.process.poll() is None and time.monotonic() < deadline:
        for pid in served.workers():
            with suppress(ProcessLookupError):  # the kill of the round before has come to it
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert served.process.poll() == 1
    assert "5 workers were restarted within 60 s" in served.log()
