"""Margincast from outside: files in, the endpoint over HTTP, the command line; no inner objects.

One small market is simulated and one small model trained for all tests of the folder. Endpoints run
in threads of the test process, each on a port, a ledger and a configuration file of its own, and
are driven through real sockets. The command line runs in the process too, through its entry point.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from benchmarks.http.ports import free_port
from tests.waiting import WAIT_SECONDS


def _sibling(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"acceptance_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


endpoints, venues = _sibling("endpoints"), _sibling("venues")

Endpoint: TypeAlias = Any
Service: TypeAlias = Any
TrainedMarket: TypeAlias = Any
Venue: TypeAlias = Any


_TS = pa.timestamp("ns", tz="UTC")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that names `preset` once under each shipped rule set."""
    if "preset" in metafunc.fixturenames:
        metafunc.parametrize("preset", venues.presets(), scope="module")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedMarket:
    """One simulation and one training for all tests of the folder, in however many processes they
    run; each process has a copy of its own.

    Gates are not asked: what is served here must answer, not forecast well.
    """
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent  # what the processes of a run have in common
    original, done = common / "accepted", common / "accepted.done"
    with FileLock(common / "accepted.lock"):
        if not done.exists():
            shutil.rmtree(original, ignore_errors=True)  # of a process that was killed
            _simulate_and_train(original)
            done.touch()
    folder = Path(shutil.copytree(original, tmp_path_factory.mktemp("acceptance") / "copy"))
    bundle = json.loads((folder / "retrain.json").read_text())["bundle"]
    tables = {
        name: pq.read_table(folder / f"simulated/bars/{name}.parquet") for name in endpoints.SYMBOLS
    }
    opened = tables["BTCUSDT"]["ts"][-1].as_py()
    return endpoints.TrainedMarket(
        folder,
        bundle,
        (opened.to_pydatetime() if hasattr(opened, "to_pydatetime") else opened)
        + timedelta(hours=1),
        {name: table["close"][-1].as_py() for name, table in tables.items()},
    )


def _simulate_and_train(folder: Path) -> None:
    folder.mkdir()
    config = folder / "margincast.toml"
    config.write_text(endpoints.TRAINING)

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [endpoints.MARGINCAST, *arguments, "--config", config],
            cwd=folder,
            env=endpoints.clean_environment(),
            capture_output=True,
            text=True,
            timeout=1_200,
            check=False,
        )
        assert done.returncode in {0, 3}, done.stderr

    run("simulate", "--out", "simulated")
    config.write_text('[market]\nbars = ["simulated/bars"]\n' + endpoints.TRAINING)
    run("retrain", "--json", "retrain.json")
    bundle = json.loads((folder / "retrain.json").read_text())["bundle"]
    (folder / "var" / "bundles" / "champion").write_text(f"{bundle}\n")


def _balances(account: Mapping[str, Any]) -> dict[str, float]:
    """Collateral by asset; files have no other place for cash."""
    held: dict[str, float] = {"USD": account["cash"]}
    for balance in account.get("collateral", []):
        asset = balance["asset"]
        held[asset] = held.get(asset, 0.0) + balance["amount"]
    return held


@pytest.fixture(scope="session")
def account_files() -> Callable[..., Path]:
    """Writes accounts, as they are posted, into a folder of account files."""

    def write(folder: Path, ts: str, accounts: Sequence[Mapping[str, Any]]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        time = endpoints.instant(ts)
        positions = [
            {
                "ts": time,
                "account_id": account["account_id"],
                "instrument": position["instrument"],
                "quantity": float(position["quantity"]),
                "entry_price": position.get("entry_price"),
            }
            for account in accounts
            for position in account.get("positions", [])
        ]
        balances = [
            {"ts": time, "account_id": account["account_id"], "asset": asset, "amount": amount}
            for account in accounts
            for asset, amount in _balances(account).items()
        ]
        moment, text = _TS, pa.string()
        of_positions = pa.schema(
            [
                ("ts", moment),
                ("account_id", text),
                ("instrument", text),
                ("quantity", pa.float64()),
                ("entry_price", pa.float64()),
            ]
        )
        of_balances = pa.schema(
            [("ts", moment), ("account_id", text), ("asset", text), ("amount", pa.float64())]
        )
        of_events = pa.schema(
            [("ts", moment), ("account_id", text), ("kind", text), ("amount", pa.float64())]
        )
        for name, rows, schema in (
            ("positions", positions, of_positions),
            ("collateral", balances, of_balances),
            ("events", [], of_events),
        ):
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
        return folder

    return write


@pytest.fixture(scope="session")
def extended_files(trained: TrainedMarket) -> Callable[..., Path]:
    """Writes the bar files once more, with bars at their end that are written as posted."""

    def write(folder: Path, posted: Sequence[Mapping[str, Any]]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for symbol in endpoints.SYMBOLS:
            table = pq.read_table(trained.bars / f"{symbol}.parquet")
            rows = [row for row in posted if row["symbol"] == symbol]
            opened = pa.array([endpoints.instant(row["ts"]) for row in rows], _TS)
            added = {
                name: pa.array([row[name] for row in rows], pa.float64())
                for name in ("open", "high", "low", "close", "volume")
            }
            more = pa.table({"ts": opened, **added}).select(table.column_names)
            longer = pa.concat_tables([table, more.cast(table.schema)])
            pq.write_table(longer, folder / f"{symbol}.parquet")
        return folder

    return write


@pytest.fixture
def venue(preset: str) -> Venue:
    """The rule set under test, restated."""
    return venues.Venue.of(preset)


@pytest.fixture(scope="session")
def restated() -> Callable[[str], Venue]:
    """Restates a rule set by its name."""
    factory: Callable[[str], Venue] = venues.Venue.of
    return factory


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Any]]:
    """The servers that are running, told to stop when the tests of a file are done."""
    import uvicorn

    running: list[Any] = []

    class Recorded(uvicorn.Server):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            running.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", Recorded)
        yield running
    for server in running:
        server.should_exit = True


Start = Callable[..., Endpoint]


@pytest.fixture(scope="module")
def start(
    trained: TrainedMarket, tmp_path_factory: pytest.TempPathFactory, servers: list[Any]
) -> Iterator[Start]:
    """Starts endpoints that live until the tests of a file are done; each follows its chain."""
    threads: list[threading.Thread] = []
    clients: list[httpx.Client] = []

    def begin(
        ruleset: str | Path = "linear-tiers",
        *,
        auth: str = "off",
        clock: str = "market",
        own_bundles: bool = False,
        market: str = "",
        serving: str = "",
        bars: Path | None = None,
        after: Endpoint | None = None,
    ) -> Endpoint:
        """With `after`: once more, on a copy of what that endpoint left in its folder."""
        folder = tmp_path_factory.mktemp("endpoint")
        bundles = trained.bundles
        if own_bundles:
            bundles = folder / "bundles"
            shutil.copytree(trained.bundles, bundles)
        if after is not None:
            shutil.copytree(after.folder / "var", folder / "var")
        port = free_port()
        config = endpoints.write_config(
            folder,
            bars=bars or trained.bars,
            ruleset=ruleset,
            bundles=bundles,
            port=port,
            auth=auth,
            clock=clock,
            market=market,
            serving=serving,
        )
        failures: list[BaseException] = []
        thread = threading.Thread(
            target=endpoints.serve_in_thread, args=(config, failures), daemon=True
        )
        thread.start()
        threads.append(thread)
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=endpoints.REQUEST_SECONDS, trust_env=False
        )
        clients.append(client)
        endpoints.wait_until_started(client, failures)
        return endpoints.Endpoint(config, client, trained, Path(str(ruleset)).stem)

    yield begin
    for server in servers:
        server.should_exit = True
    for thread in threads:
        thread.join(WAIT_SECONDS)
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def served(preset: str, start: Start) -> Endpoint:
    """One endpoint under each rule set for the tests of a file."""
    return start(preset)


@pytest.fixture(scope="session")
def standalone(
    trained: TrainedMarket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Service]]:
    """Starts endpoints as processes, ended with the tests at the latest."""
    begun: list[Service] = []

    def begin() -> Service:
        port = free_port()
        config = endpoints.write_config(
            tmp_path_factory.mktemp("service"),
            bars=trained.bars,
            ruleset="linear-tiers",
            bundles=trained.bundles,
            port=port,
            auth="off",
            clock="market",
            market="",
            serving="",
        )
        begun.append(endpoints.Service(config, port))
        return begun[-1]

    yield begin
    for service in begun:
        service.kill()
        service.client.close()
