"""Margincast from outside: files in, the endpoint over HTTP, the command line; no inner objects.

One small market is simulated and one small model trained for all tests of the folder. Endpoints run
in threads of the test process, each on a port, a ledger and a configuration file of its own, and
are driven through real sockets. The command line runs in the process too, through its entry point.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
RULESETS = ROOT / "margin" / "rulesets"
MARGINCAST = Path(sys.executable).parent / "margincast"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
READY_SECONDS = 60.0
REQUEST_SECONDS = 60.0
"""Bounds on what hangs, not measures of speed: machines are shared."""

TRAINING = """
[simulate]
days = 32
symbols = 3

[accounts]
count = 150

[training]
fit_end = "2025-01-20T00:00:00Z"
calibrate_end = "2025-01-24T00:00:00Z"
test_end = "2025-01-28T00:00:00Z"
max_rows = 4000

[review]
folds = 0
ablation = false
backtest = false

[tracking]
uri = "sqlite:///var/mlflow.db"

[serving]
bundles = "var/bundles"
clock = "market"
auth = "off"

[ledger]
url = "sqlite:///var/ledger.db"
"""

ENDPOINT = """
[market]
bars = ["{bars}"]

[training]
fit_end = "2025-01-20T00:00:00Z"
calibrate_end = "2025-01-24T00:00:00Z"
test_end = "2025-01-28T00:00:00Z"
max_rows = 4000

[accounts]
count = 150

[rules]
ruleset = "{ruleset}"

[tracking]
uri = "sqlite:///var/mlflow.db"

[serving]
bundles = "{bundles}"
port = {port}
clock = "market"
auth = "{auth}"
{serving}

[ledger]
url = "sqlite:///var/ledger.db"
"""


def presets() -> list[str]:
    """Names of the rule sets that are shipped."""
    return sorted(path.stem for path in RULESETS.glob("*.toml"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that names `preset` once under each shipped rule set."""
    if "preset" in metafunc.fixturenames:
        metafunc.parametrize("preset", presets(), scope="module")


def instant(text: str) -> datetime:
    """A time of the interfaces."""
    return datetime.fromisoformat(text).astimezone(UTC)


def written(time: datetime) -> str:
    """A time as the interfaces write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_json(text: str | bytes) -> Any:
    """JSON without the constants that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} has no place in JSON")

    return json.loads(text, parse_constant=refuse)


def clean_environment(**variables: str) -> dict[str, str]:
    """The surrounding environment without settings of Margincast, and with these."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MARGINCAST")}
    return kept | {"OMP_WAIT_POLICY": "PASSIVE"} | variables


def free_port() -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def write_config(folder: Path, **keys: object) -> Path:
    """The configuration of an endpoint."""
    config = folder / "margincast.toml"
    config.write_text(ENDPOINT.format(**keys))
    return config


@dataclass(frozen=True)
class Finished:
    """One run of the command line."""

    code: int
    out: str
    err: str


def run_cli(*arguments: str | Path) -> Finished:
    """The entry point of ``margincast`` in this process."""
    from pipelines import cli

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("MARGINCAST"):
                patch.delenv(name)
        patch.setattr(sys, "argv", ["margincast", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Finished(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Trained:
    """A simulated market in files and a bundle that was trained on its first days."""

    folder: Path
    bundle: str
    newest: datetime
    closes: Mapping[str, float]

    @property
    def bars(self) -> Path:
        return self.folder / "simulated" / "bars"

    @property
    def bundles(self) -> Path:
        return self.folder / "var" / "bundles"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Gates are not asked: what is served here must answer, not forecast well."""
    folder = tmp_path_factory.mktemp("acceptance")
    config = folder / "margincast.toml"
    config.write_text(TRAINING)

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [MARGINCAST, *arguments, "--config", config],
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode in {0, 3}, done.stderr

    run("simulate", "--out", "simulated")
    config.write_text('[market]\nbars = ["simulated/bars"]\n' + TRAINING)
    run("retrain", "--json", "retrain.json")
    bundle = json.loads((folder / "retrain.json").read_text())["bundle"]
    (folder / "var" / "bundles" / "champion").write_text(f"{bundle}\n")
    tables = {name: pq.read_table(folder / f"simulated/bars/{name}.parquet") for name in SYMBOLS}
    opened = tables["BTCUSDT"]["ts"][-1].as_py()
    return Trained(
        folder,
        bundle,
        (opened.to_pydatetime() if hasattr(opened, "to_pydatetime") else opened)
        + timedelta(hours=1),
        {name: table["close"][-1].as_py() for name, table in tables.items()},
    )


@dataclass
class Endpoint:
    """A running endpoint, its configuration, and the market that it was started on."""

    config: Path
    client: httpx.Client
    market: Trained
    ruleset: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.config.parent

    def at(self, *, hours: float = 0.0, minutes: float = 0.0) -> str:
        """A time after the close of the newest bar in the files."""
        return written(self.market.newest + timedelta(hours=hours, minutes=minutes))

    def get(self, path: str, code: int = 200, **options: Any) -> Any:
        return self._json(self.client.get(path, headers=self.headers, **options), code)

    def post(
        self, path: str, body: object, code: int | tuple[int, ...] = 200, **options: Any
    ) -> Any:
        options.setdefault("headers", self.headers)
        return self._json(self.client.post(path, json=body, **options), code)

    def score(self, *accounts: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        """The decision of each account by its id; every account must be answered."""
        answer = self.post("/v1/score", {"accounts": list(accounts), **rest})
        assert answer["errors"] == []
        return {decision["account_id"]: decision for decision in answer["decisions"]}

    def decision(self, account: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
        (decision,) = self.score(account, **rest).values()
        return decision

    def quotes(self, *quotes: Mapping[str, Any]) -> list[str]:
        """Post quotes; what became of each."""
        answer = self.post("/v1/market/quotes", {"quotes": list(quotes)})
        return [result["status"] for result in answer["results"]]

    def marks(self, at: str, **marks: float) -> list[str]:
        """Post marks of one time; a name like ``BTCUSDT_PERP`` stands for ``BTCUSDT-PERP``."""
        return self.quotes(
            *(
                {"instrument": name.replace("_", "-"), "ts": at, "mark": mark}
                for name, mark in marks.items()
            )
        )

    def bars(self, *bars: Mapping[str, Any], **rest: Any) -> list[str]:
        """Post hourly bars; what became of each."""
        body = {"interval": "1h", "bars": list(bars), **rest}
        answer = self.post("/v1/market/bars", body)
        return [result["status"] for result in answer["results"]]

    def bar(
        self, symbol: str, hours: float, close: float, *, opened: float | None = None
    ) -> dict[str, Any]:
        """The bar that opens so many hours after the files end, without wicks."""
        first = close if opened is None else opened
        return {
            "symbol": symbol,
            "ts": self.at(hours=hours),
            "open": first,
            "high": max(first, close),
            "low": min(first, close),
            "close": close,
            "volume": 100.0,
        }

    def quiet_bars(self, hours: float, *without: str, **closes: float) -> list[dict[str, Any]]:
        """The bars of one hour in which nothing moves except to the closes that are given."""
        return [
            self.bar(symbol, hours, closes.get(symbol, self.market.closes[symbol]))
            for symbol in SYMBOLS
            if symbol not in without
        ]

    def cli(self, *arguments: str | Path) -> Finished:
        """A verb of the command line on the endpoint's configuration."""
        return self.cli_with(self.config, *arguments)

    @staticmethod
    def cli_with(config: Path, *arguments: str | Path) -> Finished:
        """A verb of the command line on another configuration."""
        return run_cli(*arguments, "--config", config)

    def score_files(
        self, accounts: Path, as_of: str, *options: str, code: int = 0
    ) -> dict[str, dict[str, Any]]:
        """What ``margincast score`` writes: the row of each account by its id."""
        out = self.folder / "scored.parquet"
        out.unlink(missing_ok=True)
        done = self.cli("score", "--accounts", accounts, "--as-of", as_of, "--out", out, *options)
        assert done.code == code, done.err
        rows = pq.read_table(out).to_pylist()
        return {row["account_id"]: row for row in rows}

    def key(self, *scopes: str) -> dict[str, str]:
        """Headers with a new key of these scopes."""
        done = self.cli("keys", "add", "--scopes", ",".join(scopes))
        assert done.code == 0, done.err
        return {"Authorization": f"Bearer {done.out.split()[-1]}"}

    @staticmethod
    def _json(response: httpx.Response, code: int | tuple[int, ...]) -> Any:
        expected = (code,) if isinstance(code, int) else code
        assert response.status_code in expected, response.text
        return read_json(response.content)


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
        time = instant(ts)
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
        moment, text = pa.timestamp("ns", tz="UTC"), pa.string()
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


@dataclass(frozen=True)
class Venue:
    """A rule set restated slowly for one linear position, from nothing but its file."""

    name: str
    rules: Mapping[str, Any]

    @classmethod
    def of(cls, name: str) -> Venue:
        return cls(name, tomllib.loads((RULESETS / f"{name}.toml").read_text()))

    @property
    def cash_assets(self) -> list[str]:
        assets: list[str] = self.rules["collateral"]["cash_assets"]
        return assets

    def margins(
        self, symbol: str, quantity: float, perp: float, spot: float
    ) -> tuple[float, float]:
        """Initial and maintenance margin of one perpetual position."""
        if "tier" in self.rules:
            return self._tier(symbol, quantity, perp)
        if "standard" in self.rules:
            return self._standard(symbol, quantity, perp, spot)
        if "simulation" in self.rules:
            return self._simulated(quantity, perp)
        return self._scenario(quantity, perp, spot)

    def _tier(self, symbol: str, quantity: float, price: float) -> tuple[float, float]:
        tier = self.rules["tier"]
        chosen = tier
        for table in tier.get("classes", {}).values():
            if symbol in table["symbols"]:
                chosen = table
        chosen = tier.get("symbols", {}).get(symbol, chosen)
        notional = abs(quantity) * price
        maintenance, initial, lower = 0.0, 0.0, 0.0
        for bracket in chosen["brackets"]:
            upper = bracket.get("upper_bound", math.inf)
            inside = max(0.0, min(notional, upper) - lower)
            maintenance += inside * bracket["maintenance_rate"]
            if self.name in {"binance-usdm", "hyperliquid"}:
                # Of the whole notional at the highest leverage that its bracket allows.
                if lower < notional <= upper:
                    initial = notional * bracket["initial_rate"]
            else:
                initial += inside * bracket["initial_rate"]
            lower = upper
        return initial, maintenance

    def _standard(
        self, symbol: str, quantity: float, perp: float, spot: float
    ) -> tuple[float, float]:
        common = self.rules["standard"]
        rules = common | common.get("underlyings", {}).get(symbol.removesuffix("USDT"), {})
        price = perp if rules["perp_reference"] == "perp" else spot
        size = abs(quantity)
        initial, maintenance = (
            (rules[f"{kind}_perp"] + rules.get(f"{kind}_perp_per_unit", 0.0) * size) * price * size
            for kind in ("im", "mm")
        )
        return initial, maintenance

    def _simulated(self, quantity: float, price: float) -> tuple[float, float]:
        """Of an underlying whose history is too short: the flat shock."""
        rules = self.rules["simulation"]
        maintenance = rules["unknown_move"] * abs(quantity) * price
        return maintenance * rules["initial_multiple"], maintenance

    def _scenario(self, quantity: float, perp: float, spot: float) -> tuple[float, float]:
        rules = self.rules["scenario"]
        loss = max(
            -quantity * (row["spot"] - 1.0) * perp * row.get("dampening", 1.0)
            for row in rules["grid"]
        )
        loss = max(loss, rules.get("delta_net_rate", 0.0) * abs(quantity) * spot)
        contingency = abs(quantity) * spot
        maintenance = rules["mm_factor"] * loss + rules["perp_mm_contingency"] * contingency
        both = rules["perp_mm_contingency"] + rules["perp_im_extra_contingency"]
        return rules["im_factor"] * loss + both * contingency, maintenance


@pytest.fixture
def venue(preset: str) -> Venue:
    """The rule set under test, restated."""
    return Venue.of(preset)


@pytest.fixture(scope="session")
def restated() -> Callable[[str], Venue]:
    """Restates a rule set by its name."""
    return Venue.of


@pytest.fixture(scope="session")
def servers() -> Iterator[list[Any]]:
    """The servers that are running, told to stop when all tests are done."""
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


@pytest.fixture(scope="session")
def start(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory, servers: list[Any]
) -> Iterator[Start]:
    """Starts endpoints that live until the tests are done."""
    threads: list[threading.Thread] = []
    clients: list[httpx.Client] = []

    def begin(
        ruleset: str | Path = "linear-tiers",
        *,
        auth: str = "off",
        own_bundles: bool = False,
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
        config = write_config(
            folder,
            bars=bars or trained.bars,
            ruleset=ruleset,
            bundles=bundles,
            port=port,
            auth=auth,
            serving=serving,
        )
        failures: list[BaseException] = []
        thread = threading.Thread(target=_serve, args=(config, failures), daemon=True)
        thread.start()
        threads.append(thread)
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=REQUEST_SECONDS, trust_env=False
        )
        clients.append(client)
        _wait_until_live(client, failures)
        return Endpoint(config, client, trained, Path(str(ruleset)).stem)

    yield begin
    for server in servers:
        server.should_exit = True
    for thread in threads:
        thread.join(10.0)
    for client in clients:
        client.close()


def _serve(config: Path, failures: list[BaseException]) -> None:
    from pipelines.config import load_config
    from pipelines.serve import serve

    try:
        serve(load_config(config))
    except BaseException as error:  # noqa: BLE001 - the test that waits reports it
        failures.append(error)


def _wait_until_live(client: httpx.Client, failures: list[BaseException]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if failures:
            raise failures[0]
        try:
            if client.get("/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.01)
    pytest.fail(f"the endpoint did not answer within {READY_SECONDS:g} s")


@pytest.fixture(scope="module")
def served(preset: str, start: Start) -> Endpoint:
    """One endpoint under each rule set for the tests of a file."""
    return start(preset)


class Service:
    """``margincast serve`` as a process, for what could stop a thread of the tests."""

    def __init__(self, config: Path, port: int) -> None:
        self._config = config
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        with (self._config.parent / "serve.err").open("ab") as errors:
            process = subprocess.Popen(
                [MARGINCAST, "serve", "--config", self._config],
                cwd=self._config.parent,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        _wait_until_live(self.client, [])
        return process

    def answers(self) -> bool:
        """Whether it runs and says so."""
        try:
            return self.client.get("/health/ready", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def restart(self) -> None:
        """A new process in the place of one that no longer answers."""
        self.process.kill()
        self.process.wait(20.0)
        self.process = self._begin()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, body: object, timeout: float = 10.0) -> httpx.Response:
        return self.client.post(
            path,
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
            timeout=timeout,
        )

    def try_post(self, path: str, body: object, timeout: float) -> httpx.Response | None:
        """An answer, or none within the time."""
        try:
            return self.post(path, body, timeout)
        except httpx.HTTPError:
            return None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20.0)


@pytest.fixture(scope="session")
def standalone(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Service]]:
    """Starts endpoints as processes, ended with the tests at the latest."""
    begun: list[Service] = []

    def begin() -> Service:
        port = free_port()
        config = write_config(
            tmp_path_factory.mktemp("service"),
            bars=trained.bars,
            ruleset="linear-tiers",
            bundles=trained.bundles,
            port=port,
            auth="off",
            serving="",
        )
        begun.append(Service(config, port))
        return begun[-1]

    yield begin
    for service in begun:
        service.kill()
        service.client.close()
